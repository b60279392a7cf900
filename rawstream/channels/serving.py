"""Channels over HTTP: who may, and what each method does.

GET /channels/NAME                  reads it; with ?channel=OTHER (or several) those too
GET, Upgrade: websocket             reads, joins, leaves and publishes: joining.py
GET /channels/NAME@presence         who comes and goes; as application/json, who is there
POST /channels/NAME                 publishes: publishing.py
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from ..errors import HTTPError
from ..http.fields import Fields
from ..http.origin import check_origin
from ..http.request import Request
from .asked import VARY, Way, what_is_asked
from .conversation import MAX_JOINED, serve_conversation
from .formats import as_json
from .presence import SUFFIX
from .publishing import publish_body
from .readers import read_as_stream, read_by_poll
from .registry import Channels
from .several import read_several


async def serve_channels(request: Request, channels: Channels, name: str = "") -> None:
    """Let a client read or publish to the channel of this name, and read others that it asks for
    by `?channel=`. Returns when it is done, or gone.

    Pages of other origins are refused with 403, unless `channels.origins` lists them. Raises
    `HTTPError` also for names that are none, methods other than GET and POST, and what
    `authorize` refuses.
    """
    check_origin(request, channels.origins)
    headers = _for_other_origins(request, channels)
    try:
        await _serve(request, channels, name, headers)
    except HTTPError as error:
        error.headers = [*error.headers, *headers]
        raise


async def _serve(request: Request, channels: Channels, name: str, headers: Fields) -> None:
    only_read = not name or name.endswith(SUFFIX)
    allow = ("Allow", "GET, HEAD, OPTIONS" if only_read else "GET, HEAD, OPTIONS, POST")
    match request.method:
        case "GET":
            await _read(request, channels, name, headers)
        case "POST" if not only_read:
            compose = partial(channels.compose, await channels.allow(request, name, "publish"))
            with channels.in_use(name) as channel:
                await publish_body(request, channel, compose, headers)
        case "OPTIONS":
            await request.respond(204, headers=[allow, *headers])
        case _:
            methods = "read with GET" if only_read else "read with GET and written with POST"
            raise HTTPError(405, f"it is {methods}", [allow])


def _for_other_origins(request: Request, channels: Channels) -> Fields:
    """The fields with which a browser lets pages of a listed origin see the answer (WHATWG Fetch,
    section 3.3, "CORS protocol")."""
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
        raise HTTPError(400, f"a connection reads {MAX_JOINED} channels at most")
    members = [(name, await channels.allow(request, name, "read")) for name in names]
    asked = what_is_asked(request, lists=not others and name.endswith(SUFFIX))
    if asked.way is Way.WEBSOCKET:
        await serve_conversation(request, channels, members, asked)
        return
    if not names:
        raise HTTPError(400, "which channel? ?channel=NAME, and more of them")
    reading = partial(channels.read, listed=asked.way is not Way.POLL)
    with ExitStack() as stack:
        if asked.way is Way.LIST:
            stack.enter_context(channels.in_use(name))
            await _respond_who(request, channels, name, headers)
            return
        found = [stack.enter_context(reading(*member)) for member in members]
        if others:
            await read_several(request, found, asked, lag=channels.lag, headers=headers)
        elif asked.way is Way.POLL:
            await read_by_poll(request, found[0], asked, headers)
        else:
            await read_as_stream(request, found[0], asked, channels.lag, headers)


async def _respond_who(request: Request, channels: Channels, name: str, headers: Fields) -> None:
    """Who is there now."""
    body = as_json(channels.presence(name).as_json()) + "\n"
    fields = [("Cache-Control", "no-store"), VARY, *headers]
    await request.respond(200, body, content_type=Way.LIST.value, headers=fields)
