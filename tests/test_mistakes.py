"""Mistakes in a program that uses the library: each is an error that names the mistake."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import trio
from peers import Connect
from wire import GET, handshake

from rawstream import (
    Channel,
    Channels,
    Event,
    HTTPError,
    Request,
    open_events,
    open_poll,
    open_stream,
    open_websocket,
    run,
    serve,
    serve_channels,
    serve_stream,
)


async def failure_of(
    connect: Connect, caplog: pytest.LogCaptureFixture, handler: Any, request: bytes = GET
) -> str:
    """The last line of the traceback with which a handler failed; its client is told of no detail."""
    peer = connect(handler)
    with caplog.at_level(logging.ERROR, "rawstream"):
        await peer.send(request)
        received = await peer.to_end()
    assert b"Error:" not in received
    failed = [record for record in caplog.records if record.exc_info]
    assert len(failed) == 1
    assert failed[0].exc_info is not None
    return f"{type(failed[0].exc_info[1]).__name__}: {failed[0].exc_info[1]}"


async def respond_twice(request: Request) -> None:
    await request.respond(200, "one\n")
    await request.respond(200, "two\n")


async def respond_after_a_stream(request: Request) -> None:
    async with open_stream(request, "text/plain") as stream:
        await stream.send(b"one\n")
    await request.respond(404)


async def stream_twice(request: Request) -> None:
    async with open_stream(request, "text/plain"), open_events(request):
        pass


async def forget_to_await(request: Request) -> None:
    request.respond(200, "hello\n").close()


async def leave_a_stream_open(request: Request) -> None:
    await open_stream(request, "text/plain").__aenter__()


async def send_before_entering(request: Request) -> None:
    await open_stream(request, "text/plain").send(b"one\n")


async def send_before_entering_events(request: Request) -> None:
    await open_events(request).send("one")


def not_async(request: Request) -> None:
    pass


async def too_much(request: Request) -> None:
    async with open_stream(request, "text/plain", length=2) as stream:
        await stream.send(b"one")


async def too_little(request: Request) -> None:
    async with open_stream(request, "text/plain", length=2) as stream:
        await stream.send(b"1")


async def headers_as_a_dict(request: Request) -> None:
    await request.respond(200, "x", headers={"TE": "trailers"})  # type: ignore[arg-type]


async def headers_of_bytes(request: Request) -> None:
    async with open_stream(request, "a/b", headers=[(b"A", b"b")]):  # type: ignore[list-item]
        pass


async def headers_of_an_error(request: Request) -> None:
    raise HTTPError(404, headers={"TE": "x"})  # type: ignore[arg-type]


async def a_body_for_a_status(request: Request) -> None:
    await request.respond("hello")  # type: ignore[arg-type]


async def headers_from_an_iterator(request: Request) -> None:
    await request.respond(200, headers=iter([("A", 1)]))  # type: ignore[arg-type]


async def a_retry_that_is_no_number(request: Request) -> None:
    async with open_events(request, retry="1"):  # type: ignore[arg-type]
        pass


async def a_line_break_in_a_field(request: Request) -> None:
    await request.respond(200, "x", headers=[("A", "b\r\nSet-Cookie: c")])


async def an_informational_status(request: Request) -> None:
    await request.respond(102)


async def a_body_and_json(request: Request) -> None:
    await request.respond(200, "x", json={})


async def no_json(request: Request) -> None:
    await request.respond(200, json={"a": float("nan")})


async def text_to_a_stream(request: Request) -> None:
    async with open_stream(request, "text/plain") as stream:
        await stream.send("text")  # type: ignore[arg-type]


async def a_dict_as_a_body(request: Request) -> None:
    await request.respond(200, {"a": 1})  # type: ignore[arg-type]


async def a_dict_to_a_websocket(request: Request) -> None:
    async with open_websocket(request) as ws:
        await ws.send({"a": 1})  # type: ignore[arg-type]


MISTAKES: dict[Any, str] = {
    respond_twice: "RuntimeError: this request has already been answered with 200",
    respond_after_a_stream: "RuntimeError: this request has already been answered with 200",
    stream_twice: "RuntimeError: this request has already been answered with 200",
    forget_to_await: "RuntimeError: the handler returned without a response; is an `await` missing?",
    leave_a_stream_open: "RuntimeError: the handler returned before its response had ended",
    send_before_entering: "RuntimeError: the stream has not begun: enter it with `async with`",
    send_before_entering_events: "RuntimeError: the stream has not begun: enter it with `async with`",
    not_async: "TypeError: the handler not_async is not an async function",
    too_much: "ValueError: a body that does not fit its length: Too much data for declared "
    "Content-Length",
    too_little: "ValueError: a body that does not fit its length: Too little data for declared "
    "Content-Length",
    headers_as_a_dict: "TypeError: headers are a sequence of (name, value) pairs of str, like "
    "[('Vary', 'Accept')], and 'TE' is not such a pair",
    headers_of_bytes: "TypeError: headers are a sequence of (name, value) pairs of str, like "
    "[('Vary', 'Accept')], and (b'A', b'b') is not such a pair",
    headers_of_an_error: "TypeError: headers are a sequence of (name, value) pairs of str, like "
    "[('Vary', 'Accept')], and 'TE' is not such a pair",
    a_body_for_a_status: "TypeError: the status is an int such as 200, not 'hello'",
    headers_from_an_iterator: "TypeError: headers are a sequence of (name, value) pairs of str, like "
    "[('Vary', 'Accept')], and ('A', 1) is not such a pair",
    a_retry_that_is_no_number: "TypeError: retry is an int, milliseconds, not '1'",
    a_line_break_in_a_field: "ValueError: a response that cannot be sent: Illegal header value "
    "b'b\\r\\nSet-Cookie: c'",
    an_informational_status: "ValueError: a response that cannot be sent: Response status_code should be "
    "in range [200, 1000), not 102",
    a_body_and_json: "TypeError: a response has a body or json=, not both",
    no_json: "ValueError: Out of range float values are not JSON compliant",
    text_to_a_stream: "TypeError: a piece of a body is bytes, not str",
    a_dict_as_a_body: "TypeError: a body is bytes or str (json= sends other values), not dict",
    a_dict_to_a_websocket: "TypeError: a WebSocket message is str or bytes, not dict",
}


@pytest.mark.parametrize("handler", MISTAKES, ids=lambda handler: handler.__name__)
async def test_a_mistake_is_named(
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
    handler: Any,
) -> None:
    request = handshake() if handler is a_dict_to_a_websocket else GET
    failure = await failure_of(connect, caplog, handler, request)
    assert failure.startswith(MISTAKES[handler])


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"data": b"x"}, "the data of an event is a str, not bytes: b'x'"),
        ({"data": "x", "id": 5}, "the id of an event is a str, not int: 5"),
        ({"event": 5}, "the event of an event is a str, not int: 5"),
        ({"comment": 5}, "the comment of an event is a str, not int: 5"),
        ({"retry": "5"}, "retry is an int, milliseconds, not '5'"),
    ],
)
def test_fields_of_an_event(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(TypeError) as caught:
        Event(**fields).encode()
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((b"x",), {}, "data is a str, not bytes; json= takes other values"),
        (({},), {}, "data is a str, not dict; json= takes other values"),
        ((), {}, "data is a str, not NoneType; json= takes other values"),
        (("x",), {"json": 1}, "an entry has data or json=, not both"),
        (("x", 5), {}, "event is a str, not int"),
    ],
)
async def test_what_is_published(arguments: Any, options: Any, error: str) -> None:
    with pytest.raises(TypeError) as caught:
        Channel().publish(*arguments, **options)
    assert str(caught.value) == error


@pytest.mark.parametrize("event", ["gap", "end"])
async def test_event_types_of_the_channel_itself(event: str) -> None:
    with pytest.raises(ValueError, match="is reserved for the channel itself"):
        Channel().publish("x", event)


@pytest.mark.parametrize("status", [200, 302, 600])
def test_an_error_has_an_error_status(status: int) -> None:
    with pytest.raises(ValueError, match=f"a status from 400 to 599, not {status}"):
        HTTPError(status)


@pytest.mark.parametrize("last", [-1, "1"])
async def test_where_newcomers_start_is_a_count(last: Any) -> None:
    for mistaken in (Channel().entries, Channels):
        with pytest.raises(ValueError, match="last is a number of entries, 0 or more"):
            mistaken(last=last)


def test_serve_outside_trio() -> None:
    async def never(request: Request) -> None:
        raise AssertionError

    for serving in (serve(never), serve_stream(never, trio.testing.memory_stream_pair()[0])):
        with pytest.raises(RuntimeError, match=r"rawstream runs on Trio.*not with asyncio"):
            asyncio.run(serving)


async def test_a_cursor_with_a_quote(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> None:
        async with open_poll(request, cursor='"'):
            pass

    failure = await failure_of(connect, caplog, handler)
    assert failure == "ValueError: a cursor is visible ASCII without quotes, not '\"'"


def test_run_inside_a_loop() -> None:
    async def start() -> None:
        run(respond_twice)

    with pytest.raises(RuntimeError, match=r"inside Trio, use `await rawstream.serve"):
        trio.run(start)
    with pytest.raises(RuntimeError, match="outside of asyncio"):
        asyncio.run(start())


@pytest.mark.parametrize("handler", ["app:app", Channel, None])
async def test_a_handler_that_cannot_be_called(handler: Any) -> None:
    if handler is Channel:
        handler = Channel()
    with pytest.raises(TypeError, match="the handler must be an async function"):
        await serve(handler, port=0)


async def test_one_string_where_several_are_expected() -> None:
    with pytest.raises(TypeError, match="allowed_hosts is a collection of strings"):
        await serve(respond_twice, port=0, allowed_hosts="a.example")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"create": lambda name: None}, "TypeError: create must return a Channel, not None"),
        ({"compose": lambda name, text: {"a": 1}}, "TypeError: data is a str, not dict"),
    ],
)
async def test_functions_of_channels(
    connect: Connect, caplog: pytest.LogCaptureFixture, options: dict[str, Any], error: str
) -> None:
    channels = Channels(**options)
    post = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"

    async def handler(request: Request) -> None:
        await serve_channels(request, channels, "a")

    assert (await failure_of(connect, caplog, handler, post)).startswith(error)


@pytest.mark.parametrize("options", [{"entries": 0}, {"size": -1}, {"size": "1"}])
async def test_bounds_of_a_channel(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Channel(**options)


async def test_cursors_that_are_no_text() -> None:
    with pytest.raises(TypeError, match="a cursor is a str, not int: 5"):
        Channel().entries(after=5)  # type: ignore[arg-type]


async def test_text_in_a_channel_of_json() -> None:
    channel = Channel(json=True)
    with pytest.raises(ValueError, match="JSON is expected: Expecting value"):
        channel.publish("hello")
    channel.publish(json={"a": 1})
    [entry] = channel.entries_after(0)
    assert entry.json() == {"a": 1}
