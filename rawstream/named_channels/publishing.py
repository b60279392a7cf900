"""Publishing by POST: a body is one entry, or a stream of lines, each of which is an entry.

    curl -d 'hello' http://.../channels/a                        one entry
    tail -f log | curl -X POST -T - http://.../channels/a        one entry per line, as they arrive

A body of known length is one entry. A chunked body is a stream of lines, and so is a body with
`Content-Type: application/x-ndjson`, for clients behind a proxy that collects bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf

from ..channels.channel import Channel
from ..entries.log import ChannelClosed, EntryTooLarge
from ..errors import HTTPError
from ..http.fields import Fields
from ..http.request import Request
from ..limits import KIB
from .registry import Channels, Published

LINE_BYTES = 64 * KIB
"""The longest line that is accepted."""


async def publish_body(
    request: Request,
    channels: Channels,
    channel: Channel,
    compose: Callable[[str], str],
    headers: Fields = (),
) -> None:
    """Publish the body of a request to one of the channels, and answer 201 with `{"id": ID of the
    last entry, "entries": COUNT}`. `?event=` is the type of the entries. `compose` makes an entry
    from each text.

    A stream of lines may be silent for any time. Raises `HTTPError` 400 for text that is not UTF-8,
    or not JSON in a channel of JSON, 409 if the channel is closed, and 413 for an entry that is too
    large. Lines before the bad one are published, and the answer says how many.
    """
    event = request.query.get("event") or None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    published = Published(channel.id_of(channel.end))
    if "content-length" in request.headers and kind != "application/x-ndjson":
        texts = [await request.body()]
        await publish_texts(channels, channel, compose, texts, event, published)
    else:
        await _publish_lines(request, channels, channel, compose, event, headers, published)
    answer = {"id": published.last, "entries": published.count}
    await request.respond(201, json=answer, headers=headers)


async def publish_texts(
    channels: Channels,
    channel: Channel,
    compose: Callable[[str], str],
    texts: Sequence[bytes | str],
    event: str | None,
    published: Published,
) -> None:
    """Publish texts of a client to one of the channels. Raises `HTTPError` 400, 409 and 413."""
    composed, error = list[str](), None
    try:
        for text in texts:
            composed.append(compose(text.decode() if isinstance(text, bytes) else text))
    except ValueError as raised:
        error = raised
    try:
        await channels.publish_texts(channel, composed, event, published)
        if error is not None:
            raise error
    except UnicodeError:
        raise HTTPError(400, "an entry must be UTF-8") from None
    except EntryTooLarge as too_large:
        raise HTTPError(413, str(too_large)) from None
    except ValueError as invalid:
        raise HTTPError(400, str(invalid)) from None
    except ChannelClosed:
        raise HTTPError(409, "the channel is closed") from None


async def _publish_lines(
    request: Request,
    channels: Channels,
    channel: Channel,
    compose: Callable[[str], str],
    event: str | None,
    headers: Fields,
    published: Published,
) -> None:
    async def farewell() -> None:
        """The server is stopping, and the client might send lines for ever."""
        await request.respond(503, f"the server is stopping; {so_far()}\n", headers=headers)

    def so_far() -> str:
        return f"published so far: {published.count}"

    async def publish(lines: Iterable[bytes | bytearray]) -> None:
        texts = [bytes(line.removesuffix(b"\r")) for line in lines]
        if channel.is_json:  # an empty line is no JSON, and readers of x-ndjson skip it
            texts = [text for text in texts if text.strip()]
        request.exchange.on_drain(None)  # these are to be counted
        try:
            await publish_texts(channels, channel, compose, texts, event, published)
        except HTTPError as error:
            told = HTTPError(error.status, f"{error.text}; {so_far()}", error.headers)
            raise told from None
        request.exchange.on_drain(farewell)

    request.exchange.on_drain(farewell)
    pending = bytearray()
    async for part in request.stream(silence=inf):
        pending += part
        if b"\n" in part:
            *lines, pending = pending.split(b"\n")
            await publish(lines)
        if len(pending) > LINE_BYTES:
            raise HTTPError(413, f"a line is at most {LINE_BYTES} bytes; {so_far()}")
    if pending:
        await publish([pending])
    request.exchange.on_drain(None)
