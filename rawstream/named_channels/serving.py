"""Channels over HTTP: access, and what each method does.

GET /channels/NAME                  reads it; with ?channel=OTHER, those channels too
GET, Upgrade: websocket             joins, leaves, reads and publishes: conversation.py
GET /channels/NAME@presence         members that join and leave; as application/json, all members
POST /channels/NAME                 publishes: publishing.py
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from ..channels.asked import VARY, Way, what_is_asked
from ..channels.readers import read_as_stream, read_by_poll
from ..channels.several import read_several
from ..errors import HTTPError
from ..http.fields import Fields
from ..http.origin import check_origin
from ..http.request import Request
from .conversation import MAX_JOINED, serve_conversation
from .presence import SUFFIX
from .publishing import publish_body
from .registry import Channels


async def serve_channels(request: Request, channels: Channels, name: str = "") -> None:
    """Let a client read the channel of this name or publish to it, and read other channels that it
    asks for with `?channel=`. Returns when the exchange is over.

    Pages of other origins are refused with 403, unless `channels.origins` lists them. Raises
    `HTTPError`: what `authorize` raises, 404 for an invalid name, 405 for methods other than GET
    and POST, and what reading and publishing raise.
    """
    check_origin(request, channels.origins)
    headers = _for_other_origins(request, channels)
    try:
        await _serve(request, channels, name, headers)
    except HTTPError as error:
        raise error.with_headers(headers) from None


async def _serve(request: Request, channels: Channels, name: str, headers: Fields) -> None:
    only_read = not name or name.endswith(SUFFIX)
    allow = ("Allow", "GET, HEAD, OPTIONS" if only_read else "GET, HEAD, OPTIONS, POST")
    match request.method:
        case "GET":
            await _read(request, channels, name, headers)
        case "POST" if not only_read:
            compose = partial(channels.compose, await channels.allow(request, name, "publish"))
            await channels.ready(name)
            with channels.in_use(name) as channel:
                await publish_body(request, channels, channel, compose, headers)
        case "OPTIONS":
            await request.respond(204, headers=[allow, *headers])
        case _:
            methods = "read with GET" if only_read else "read with GET and published to with POST"
            raise HTTPError(405, f"a channel is {methods}", [allow])


def _for_other_origins(request: Request, channels: Channels) -> Fields:
    """The fields that let pages of a listed origin read the response (WHATWG Fetch section 3.3,
    "CORS protocol")."""
    if channels.origins is None:
        return ()
    origin = request.headers.get("origin")
    if origin is None:
        return [("Vary", "Origin")]
    return [
        ("Access-Control-Allow-Origin", origin),
        (
            "Access-Control-Allow-Headers",
            "Authorization, Content-Type, If-None-Match, Last-Event-ID",
        ),
        ("Access-Control-Expose-Headers", "ETag"),
        ("Vary", "Origin"),
    ]


async def _read(request: Request, channels: Channels, name: str, headers: Fields) -> None:
    others = request.query.get_all("channel")
    names = list(dict.fromkeys([name, *others] if name else others))
    if len(names) > MAX_JOINED:
        raise HTTPError(400, f"a connection reads at most {MAX_JOINED} channels")
    members = [(name, await channels.allow(request, name, "read")) for name in names]
    lists = not others and name.endswith(SUFFIX)
    asked = what_is_asked(request, last=channels.last, lists=lists)
    asked = asked._replace(wanted=channels.wanted(request.query.get("only")))
    for one in names:
        await channels.ready(one, asked.cursor)
    if asked.way is Way.WEBSOCKET:
        await serve_conversation(request, channels, members, asked)
        return
    if not names:
        raise HTTPError(400, "name a channel: ?channel=NAME")
    reading = partial(channels.read, listed=asked.way is not Way.POLL)
    with ExitStack() as stack:
        if asked.way is Way.LIST:
            stack.enter_context(channels.in_use(name))
            await _respond_members(request, channels, name, headers)
            return
        found = [stack.enter_context(reading(*member)) for member in members]
        if others:
            await read_several(request, found, asked, lag=channels.lag, headers=headers)
        elif asked.way is Way.POLL:
            await read_by_poll(request, found[0], asked, headers)
        else:
            await read_as_stream(request, found[0], asked, channels.lag, headers)


async def _respond_members(
    request: Request, channels: Channels, name: str, headers: Fields
) -> None:
    fields = [("Cache-Control", "no-store"), VARY, *headers]
    await request.respond(200, json=channels.presence(name).as_json(), headers=fields)
