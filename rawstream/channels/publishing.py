"""Publishing by POST: a body is one entry, or a stream of lines that are an entry each.

    curl -d 'hello' http://.../channels/a                        one entry
    tail -f log | curl -X POST -T - http://.../channels/a        an entry a line, as they come

A body whose length is known is one entry, one that comes in chunks is lines; so is
`Content-Type: application/x-ndjson`, for those behind a proxy that collects bodies.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio

from ..errors import HTTPError
from ..http.fields import Fields
from ..http.request import Request
from ..limits import KIB
from .channel import Channel
from .formats import as_json
from .log import encoded_size

YIELD_EVERY_LINES = 64
"""Lines after which the other tasks have their turn."""

LINE_BYTES = 64 * KIB
"""The longest line that is an entry."""


async def publish_body(
    request: Request, channel: Channel, compose: Callable[[str], str], headers: Fields = ()
) -> None:
    """Publish the body of a request, and answer 201 with `{"id": ID, "entries": COUNT}`, ID being
    that of the last. `?event=` is the type of its entries, `compose` makes each of its text.

    A stream of lines may be silent for as long as it likes. Raises `HTTPError` 400 for what is
    not UTF-8 and 413 for what is too large; entries before that line are published, and the
    answer says how many.
    """
    event = request.query.get("event") or None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if "content-length" in request.headers and kind != "application/x-ndjson":
        count, id = 1, publish_text(channel, compose, await request.body(), event)
        await channel.keep_pace()
    else:
        count, id = await _publish_lines(request, channel, compose, event, headers)
    answer = as_json({"id": id, "entries": count}) + "\n"
    await request.respond(201, answer, content_type="application/json", headers=headers)


def publish_text(
    channel: Channel, compose: Callable[[str], str], text: bytes | str, event: str | None
) -> str:
    """Publish what a client sent. Raises `HTTPError` 400 and 413."""
    try:
        text = compose(text.decode() if isinstance(text, bytes) else text)
        size = encoded_size(text)
    except UnicodeError:
        raise HTTPError(400, "entries are text in UTF-8") from None
    if size > channel.max_bytes:
        raise HTTPError(413, f"an entry is at most {channel.max_bytes} bytes")
    try:
        return channel.publish(text, event)
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
        """The server stops, while the client may go on for ever."""
        await request.respond(503, f"the server is stopping; {published()}\n", headers=headers)

    def published() -> str:
        return f"published so far: {count}"

    async def publish(line: bytes | bytearray) -> None:
        nonlocal count, id
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
