r"""Chapter 3: the same with h11, which knows all of HTTP/1.1 and does no I/O.

h11 is a state machine. To receive, bytes go in and events come out (`Request`, `Data`,
`EndOfMessage`); to send, events go in and bytes come out. We read and write the socket. h11
understands both framings of a body, a length and chunks, and asks for more bytes with `NEED_DATA`.

    $ python examples/03_http_with_h11.py
    listening on http://127.0.0.1:8000

The request that was two in chapter 2 is one now, and its chunk comes back as its body. (The chunks
count, not the length. After such a request a server must also close the connection, RFC 9112
section 6.1; h11 leaves that to its user, and this server does not do it.)

    $ printf '%b' 'POST /echo HTTP/1.1\r\nHost: a\r\n' \
        'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n' \
        '2a\r\nGET /admin HTTP/1.1\r\nConnection: close\r\n\r\n\r\n0\r\n\r\n' \
      | nc -w 1 127.0.0.1 8000
    HTTP/1.1 200 OK
    Date: Sat, 21 Nov 2026 09:00:00 GMT
    Content-Length: 42

    GET /admin HTTP/1.1
    Connection: close

`curl -T -` uploads its input. The size is not known, so it goes in chunks. (`-X` sets the method.)
Nonsense gets an error status, which `-w` prints; `-H` adds a field to the request:

    $ echo 'some text' | curl -s -X POST -T - http://127.0.0.1:8000/echo
    some text
    $ curl -s -w '%{http_code}\n' -H 'Content-Length: 5x' http://127.0.0.1:8000/hello
    bad Content-Length
    400

/broken announces 5 bytes and then tries to send 6. A client would read the sixth as the start of
the next response. h11 refuses to send it, so the client sees a truncated body (`-S` shows errors
although `-s` is given):

    $ curl -sS http://127.0.0.1:8000/broken
    curl: (18) transfer closed with 5 bytes remaining to read

The server's terminal:

    'POST /echo'
    'POST /echo'
    their mistake: bad Content-Length
    'GET /broken'
    our mistake: Too much data for declared Content-Length

What it leaves to us: deadlines, sizes, and how strict to be. It accepts folded lines, any Host,
and both framings at once, which a server on the open internet should refuse:
rawstream/http1/head.py shows how.

You can now let a state machine parse a protocol, and keep the reads, writes and deadlines yourself.

Two things to try: send two Content-Lengths that differ, which chapter 2 would accept. Then start
`python -m rawstream wire --to http://127.0.0.1:8000 --layer http` in a third terminal, ask
http://127.0.0.1:8001/broken, and see how a response looks that ends too early.
"""

import signal
import sys
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus

import h11
import trio

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000


async def serve(stream: trio.SocketStream) -> None:
    connection = h11.Connection(h11.SERVER)
    with suppress(trio.TooSlowError, trio.BrokenResourceError):
        try:
            while True:
                with trio.fail_after(10):
                    request = await next_event(connection, stream)
                    if not isinstance(request, h11.Request):
                        return  # the client has closed
                    body = await read_body(connection, stream)
                if body is None:
                    await respond(connection, stream, 413, b"1 MiB at most\n")
                    return
                route = f"{request.method.decode()} {request.target.decode()}"
                print(f"{route!a}")  # `!a` escapes control characters
                status, text = answer(route, body)
                length = len(text)
                if route == "GET /broken":
                    length -= 1  # on purpose
                if request.method == b"HEAD":
                    text = b""  # the length is that of the response to a GET
                await respond(connection, stream, status, text, length)
                if connection.our_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except h11.RemoteProtocolError as error:
            print("their mistake:", error)
            if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await respond(connection, stream, error.error_status_hint, f"{error}\n".encode())
        except h11.LocalProtocolError as error:
            print("our mistake:", error)


def answer(route: str, body: bytes) -> tuple[int, bytes]:
    match route:
        case "GET /hello" | "HEAD /hello" | "GET /broken":
            return 200, b"hello\n"
        case "POST /echo":
            return 200, body
    return 404, b"there is /hello and /echo\n"


async def next_event(connection: h11.Connection, stream: trio.SocketStream) -> h11.Event:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Event):
            return event
        # It is NEED_DATA.
        if connection.they_are_waiting_for_100_continue:  # before they send a large body
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            await stream.send_all(connection.send(go_on))
        connection.receive_data(await stream.receive_some(4096))


async def read_body(connection: h11.Connection, stream: trio.SocketStream) -> bytes | None:
    """Return the body of a request; None if it is too long."""
    body = b""
    event = await next_event(connection, stream)
    while isinstance(event, h11.Data):
        body += event.data
        if len(body) > 1048576:
            return None
        event = await next_event(connection, stream)
    return body  # the event is EndOfMessage


async def respond(
    connection: h11.Connection,
    stream: trio.SocketStream,
    status: int,
    body: bytes,
    length: int | None = None,
) -> None:
    """Send a response; `length` is its Content-Length, if that is not the length of the body."""
    if length is None:
        length = len(body)
    headers = [("Date", formatdate(usegmt=True)), ("Content-Length", str(length))]
    head = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase)
    await stream.send_all(connection.send(head))
    data = connection.send(h11.Data(data=body)) + connection.send(h11.EndOfMessage())
    await stream.send_all(data)


async def main() -> None:
    try:
        listeners = await trio.open_tcp_listeners(PORT, host="127.0.0.1")
    except OSError as error:
        other = f"python {sys.argv[0]} {PORT + 1}"
        sys.exit(f"port {PORT}: {error.strerror}; stop the other chapter (Ctrl-C) or run {other}")
    print(f"listening on http://127.0.0.1:{PORT}")
    await trio.serve_listeners(serve, listeners)


signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback
trio.run(main)
