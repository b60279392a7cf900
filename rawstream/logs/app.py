"""The logs over HTTP.

GET /                           the page
GET /logs                       the list; as a channel for who asks for a stream of it
GET /logs/NAME                  the lines: text, events, JSON lines, a poll, or a WebSocket
GET /logs/NAME?only=warning     the lines that are at least this severe
GET /logs/NAME?before=ID        older lines, as JSON lines: the last `?last=` before an ID
POST /logs/NAME                 takes lines, as they come
GET /logs/?channel=A&channel=B  several logs
GET /healthz, /metrics          for monitoring
"""

from __future__ import annotations

from collections import deque
from functools import cache
from math import inf
from pathlib import Path

import trio

from ..browser import FOLLOW_JS
from ..channels.asked import Way, what_is_asked
from ..channels.channel import Channel
from ..channels.readers import serve_channel
from ..entries.formats import LINES
from ..errors import HTTPError
from ..http.origin import check_origin
from ..http.request import Request
from ..limits import MIB
from ..monitoring import Monitoring, respond_health
from ..named_channels.registry import Channels
from ..named_channels.serving import serve_channels
from .access import Access
from .collection import Logs
from .files import MOST_FILES
from .levels import at_least
from .names import name_of
from .streams import publish_body

FOLDER = Path(__file__).parent

MOST_OLDER = 10_000
OLDER_BYTES = 4 * MIB
"""Older lines that one request gets."""

POLLING_SECONDS = 60
POLL_AGAIN_SECONDS = 1
"""A client that has polled within the first is taken to poll again within the second after an
answer."""

ASSETS = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("page", "view", "lines", "ansi", "levels", "plot")
    },
}

HARDENING = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-cache"),
]
"""Lines of a log are hostile text. The page shows them as text; should that fail, these fields keep
a browser from acting on it."""


class LogsApp:
    """A handler that serves logs."""

    def __init__(self, logs: Logs, access: Access) -> None:
        self._logs = logs
        self._access = access
        self._last_poll = -inf
        self._channels = Channels(
            lambda name: logs.find(name).channel,
            authorize=_authorize,
            select=at_least,
            max_channels=2 * MOST_FILES,
            last=10,
        )
        logs.on_removed = self._channels.forget
        self.monitoring = Monitoring({"logs": self._channels})

    async def __call__(self, request: Request) -> None:
        if request.path == "/healthz":
            await respond_health(request)
        elif await self._access.check(request):
            await self._serve(request)

    async def until_nobody_reads(self) -> None:
        """Wait until no connection reads a log. A client that polls is given the time to poll once
        more."""
        if trio.current_time() - self._last_poll < POLLING_SECONDS:
            await trio.sleep(POLL_AGAIN_SECONDS)
        for log in list(self._logs):
            presence = self._channels.presence(log.channel.name)
            while presence.count:
                await Channel.wait_for_entry(presence.log)

    async def _serve(self, request: Request) -> None:
        match request.method, request.path:
            case _, "/metrics":
                await self.monitoring.respond(request)
            case "GET", "/follow.js":
                await request.respond(
                    200, FOLLOW_JS, content_type="text/javascript", headers=HARDENING
                )
            case "GET", path if path in ASSETS:
                name, kind = ASSETS[path]
                await request.respond(200, _read(name), content_type=kind, headers=HARDENING)
            case "GET", "/logs":
                await self._list(request)
            case _, path if path.startswith("/logs/"):
                await self._log(request, path.removeprefix("/logs/"))
            case _, path if path == "/logs" or path in ASSETS:
                raise HTTPError(405, headers=[("Allow", "GET, HEAD")])
            case _:
                raise HTTPError(404)

    async def _list(self, request: Request) -> None:
        """Serve the list: as text at once, else as a channel whose entries are lists."""
        check_origin(request)
        if what_is_asked(request, last=1).way is not Way.TEXT:
            await serve_channel(request, self._logs.changes, last=1)
            return
        lines = [f"{log.channel.name}\t{log.kind.value}\t{log.about}\n" for log in self._logs]
        await request.respond(200, "".join(lines), headers=[("Cache-Control", "no-store")])

    async def _log(self, request: Request, name: str) -> None:
        if request.method == "POST" and name:
            check_origin(request)
            if name != name_of(name):
                raise HTTPError(400, "a log's name is 1 to 64 of A-Z a-z 0-9 . _ ~ -")
            log = self._logs.find_to_post(name, request.client)
            log.posting += 1
            try:
                await publish_body(request, log.channel)
            finally:
                log.posting -= 1
        elif request.method == "GET" and "before" in request.query:
            check_origin(request)
            await _respond_older(request, self._logs.find(name).channel)
        else:
            if "wait" in request.query:
                self._last_poll = trio.current_time()
            await serve_channels(request, self._channels, name)


async def _authorize(request: Request, name: str, action: str) -> str | None:
    if action == "publish":
        raise HTTPError(403, "post lines to /logs/NAME")
    return None


async def _respond_older(request: Request, channel: Channel) -> None:
    """Answer with the lines before that with an ID, at most `MOST_OLDER` and `OLDER_BYTES`. Raises
    `HTTPError` 410 if the log does not have this line any more."""
    count = what_is_asked(request, last=1000).last
    end = channel.position_of(request.query["before"])
    if end is None or not channel.oldest <= end <= channel.end:
        raise HTTPError(410, "the log does not go back to this line any more")
    position = channel.position_before(end, min(count, MOST_OLDER) + 1)
    held, size = deque[bytes](), 0
    while position < end:
        entry = None
        for entry in channel.entries_after(position):
            position = entry.position
            if position >= end:
                break
            held.append(LINES.entry(entry))
            size += len(held[-1])
            while size > OLDER_BYTES:
                size -= len(held.popleft())
        if entry is None:
            raise HTTPError(410, "the log was truncated")
        await trio.lowlevel.checkpoint()
    fields = [("Cache-Control", "no-store")]
    await request.respond(200, b"".join(held), content_type="application/x-ndjson", headers=fields)


@cache
def _read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()
