"""Publishing by POST: a body is one entry, or a stream of lines, each of which is an entry.

    curl -d 'hello' http://.../channels/a                        one entry
    tail -f log | curl -X POST -T - http://.../channels/a        one entry per line, as they arrive

A body of known length is one entry. A chunked body is a stream of lines, and so is a body with
`Content-Type: application/x-ndjson`, for clients behind a proxy that collects bodies.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio

from ..entries.log import EntryTooLarge
from ..errors import HTTPError
from ..http.fields import Fields
from ..http.request import Request
from ..limits import KIB
from .channel import Channel

YIELD_EVERY_LINES = 64
"""Lines after which other tasks may run."""

LINE_BYTES = 64 * KIB
"""The longest line that is accepted."""


async def publish_body(
    request: Request, channel: Channel, compose: Callable[[str], str], headers: Fields = ()
) -> None:
    """Publish the body of a request, and answer 201 with `{"id": ID of the last entry, "entries":
    COUNT}`. `?event=` is the type of the entries. `compose` makes an entry from each text.

    A stream of lines may be silent for any time. Raises `HTTPError` 400 for text that is not UTF-8,
    or not JSON in a channel of JSON, 409 if the channel is closed, and 413 for an entry that is too
    large. Lines before the bad one are published, and the answer says how many.
    """
    event = request.query.get("event") or None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if "content-length" in request.headers and kind != "application/x-ndjson":
        count, id = 1, publish_text(channel, compose, await request.body(), event)
        await channel.keep_pace()
    else:
        count, id = await _publish_lines(request, channel, compose, event, headers)
    await request.respond(201, json={"id": id, "entries": count}, headers=headers)


def publish_text(
    channel: Channel, compose: Callable[[str], str], text: bytes | str, event: str | None
) -> str:
    """Publish a text of a client. Raises `HTTPError` 400, 409 and 413."""
    if channel.is_closed:
        raise HTTPError(409, "the channel is closed")
    try:
        text = compose(text.decode() if isinstance(text, bytes) else text)
        return channel.publish(text, event)
    except UnicodeError:
        raise HTTPError(400, "an entry must be UTF-8") from None
    except EntryTooLarge as error:
        raise HTTPError(413, str(error)) from None
    except ValueError as error:
        raise HTTPError(400, str(error)) from None


async def _publish_lines(
    request: Request,
    channel: Channel,
    compose: Callable[[str], str],
    event: str | None,
    headers: Fields,
) -> tuple[int, str]:
    count = 0
    id = channel.id_of(channel.end)

    async def farewell() -> None:
        """The server is stopping, and the client might send lines for ever."""
        await request.respond(503, f"the server is stopping; {published()}\n", headers=headers)

    def published() -> str:
        return f"published so far: {count}"

    async def publish(line: bytes | bytearray) -> None:
        nonlocal count, id
        if channel.is_json and not line.strip():
            return  # an empty line is no JSON, and readers of x-ndjson skip it
        try:
            id = publish_text(channel, compose, bytes(line.removesuffix(b"\r")), event)
        except HTTPError as error:
            raise HTTPError(error.status, f"{error.text}; {published()}") from None
        count += 1
        await channel.keep_pace()
        if count % YIELD_EVERY_LINES == 0:
            await trio.lowlevel.checkpoint()

    request.exchange.on_drain(farewell)
    pending = bytearray()
    async for part in request.stream(silence=inf):
        *lines, rest = part.split(b"\n")
        for line in lines:
            await publish(pending + line)
            pending.clear()
        pending += rest
        if len(pending) > LINE_BYTES:
            raise HTTPError(413, f"a line is at most {LINE_BYTES} bytes; {published()}")
    if pending:
        await publish(pending)
    request.exchange.on_drain(None)
    return count, id
