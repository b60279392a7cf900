"""What a request asks of a channel, read once: in which way, and from where.

    Upgrade: websocket                         WEBSOCKET
    ?wait=SECONDS                              POLL
    Accept: text/event-stream                  EVENTS
    Accept: application/x-ndjson               LINES
    Accept: text/plain, or anything            TEXT
    Accept: application/json                   LIST, of the members that are present

The cursor comes as `Last-Event-ID`, as `?after=`, and in a poll also as `If-None-Match`. An
EventSource that reconnects adds its Last-Event-ID to the URL that it was given at first, so the
field takes precedence; a poll makes a new URL each time. A pure function of the request.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from ..entries.formats import Wanted
from ..errors import HTTPError
from ..http.negotiation import preferred
from ..http.request import Request
from ..streams.longpoll import client_cursor

VARY = ("Vary", "Accept")


class Way(Enum):
    """A way to read. The value is its media type, if it has one."""

    WEBSOCKET = "websocket"
    POLL = "poll"
    EVENTS = "text/event-stream"
    LINES = "application/x-ndjson"
    TEXT = "text/plain"
    LIST = "application/json"


WEBSOCKET, POLL, LIST = Way.WEBSOCKET, Way.POLL, Way.LIST  # by these names they are found faster

STREAMS = {way.value: way for way in (Way.TEXT, Way.LINES, Way.EVENTS)}
"""The ways to stream. A client without a preference gets the first."""

STREAMS_AND_LIST = {**STREAMS, LIST.value: LIST}


class Asked(NamedTuple):
    """What a request asks."""

    way: Way
    cursor: str | None
    """The cursor as the client sent it, valid or not; None if it sent none."""
    last: int
    """How many entries before the present a client without a cursor starts."""
    wanted: Wanted | None = None
    """Which entries it wants, if not all: `Channels(select=...)`."""
    in_batches: bool = False
    """Whether a WebSocket message may hold several entries, each on a line: `?batch=1`."""


def what_is_asked(request: Request, *, last: int, lists: bool = False) -> Asked:
    """Read what a request asks. `last` is the server's default for `?last=`; `lists` offers the
    LIST, too. Raises `HTTPError` 400 if `last` is not a number, and 406 if no way is
    acceptable."""
    way = _way(request, lists=lists)
    if way is POLL:
        cursor = client_cursor(request)
    else:
        cursor = request.last_event_id or request.query.get("after", "")
    text = request.query.get("last", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HTTPError(400, "last is a number of entries")
    in_batches = way is WEBSOCKET and request.query.get("batch") == "1"
    return Asked(way, cursor or None, int(text) if text else last, in_batches=in_batches)


def _way(request: Request, *, lists: bool) -> Way:
    if "websocket" in request.headers.tokens("upgrade"):
        return WEBSOCKET
    if "wait" in request.query:
        return POLL
    offers = STREAMS_AND_LIST if lists else STREAMS
    found = preferred(request.headers.get("accept") or "*/*", offers)
    if found is None:
        raise HTTPError(406, "there is " + ", ".join(STREAMS), [VARY])
    return offers[found]
