"""The wire for browsers, live: a view that publishes what passes on a channel, and the page that
reads it.

    GET /wire             the page
    GET /wire/events      the records, on a channel: the history first, then what passes
    GET /wire/view.js     the parts of the page, for others that show the wire
    GET /wire/view.css
    GET /wire/terms
"""

from __future__ import annotations

from ..channels.channel import Channel
from ..channels.readers import serve_channel
from ..dissector.spans import Dissected
from ..errors import HTTPError
from ..http.request import Handler, Request
from ..http.tokens import is_token
from ..limits import MIB
from .page import live_page, view_script, view_style
from .recorder import WireRecorder
from .records import described_terms, piece_record

HISTORY_ENTRIES = 10_000
HISTORY_BYTES = 16 * MIB
"""Of what has passed at most this much is kept for pages that are opened later."""

CLOSE = [("Connection", "close")]
"""For what a page loads before it reads the recording. Requests of the page come over connections
that are recorded, because they are accepted later."""

PATH = "/wire"
EVENTS_PATH = "/wire/events"
"""A connection that is asked for this is not recorded: what it carries is the recording."""


class LiveWire:
    """A view for browsers. A recorder that records on demand rests while no page is open."""

    def __init__(self, recorder: WireRecorder, *, token: str = "") -> None:
        """With a `token`, only requests with `?token=` see anything."""
        self.token = token
        self._recorder = recorder
        self._channel = Channel(entries=HISTORY_ENTRIES, size=HISTORY_BYTES, json=True)

    async def show(self, connection: int, dissected: Dissected) -> None:
        """Publish a piece."""
        self._channel.publish(json=piece_record(connection, dissected))
        await self._channel.keep_pace()

    async def lose(self, connection: int, why: str) -> None:
        """Publish that the rest of a connection is not shown."""
        self._channel.publish(json={"connection": connection, "lost": why})

    def beside(self, handler: Handler) -> Handler:
        """A handler that answers requests below `/wire`, and gives `handler` all others."""

        async def both(request: Request) -> None:
            is_below = request.path == PATH or request.path.startswith(f"{PATH}/")
            await (self.serve(request) if is_below else handler(request))

        return both

    async def serve(self, request: Request) -> None:
        """Answer a request for the page, or for what it reads. Raises `HTTPError`."""
        match request.method, request.path:
            case "GET", "/":
                await request.respond(302, headers=[("Location", PATH)])
            case "GET", "/wire":
                self.check_token(request)
                kind = "text/html; charset=utf-8"
                await request.respond(200, live_page(), content_type=kind, headers=CLOSE)
            case "GET", path if path == EVENTS_PATH:
                self.check_token(request)
                with self._recorder.looked_at():
                    await serve_channel(request, self._channel, last=HISTORY_ENTRIES, headers=CLOSE)
            case "GET", "/wire/view.js":
                await request.respond(
                    200, view_script(), content_type="text/javascript", headers=CLOSE
                )
            case "GET", "/wire/view.css":
                await request.respond(200, view_style(), content_type="text/css", headers=CLOSE)
            case "GET", "/wire/terms":
                await request.respond(200, json=described_terms(), headers=CLOSE)
            case _:
                raise HTTPError(404)

    def check_token(self, request: Request) -> None:
        """Raise `HTTPError` 403 if the request has not the token that it needs."""
        if self.token and not is_token(request.query.get("token", ""), self.token):
            raise HTTPError(403, "this is shown only with ?token=, which the server printed")
