"""What a request asks of a channel, read once: in which way, and from where.

    Upgrade: websocket                         WEBSOCKET
    ?wait=SECONDS                              POLL
    Accept: text/event-stream                  EVENTS
    Accept: application/x-ndjson               LINES
    Accept: text/plain, or anything            TEXT
    Accept: application/json                   LIST, of who is there

The cursor may come as `Last-Event-ID`, as `?after=`, and with a poll as `If-None-Match`. An
EventSource that comes back adds its Last-Event-ID to the URL that it was given at first, so the
field comes first; a poll makes its URL anew. A pure function of the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..errors import HTTPError
from ..http.negotiation import preferred
from ..http.request import Request
from ..streams.longpoll import client_cursor

VARY = ("Vary", "Accept")


class Way(Enum):
    """A way to read; the value is its media type, if it has one."""

    WEBSOCKET = "websocket"
    POLL = "poll"
    EVENTS = "text/event-stream"
    LINES = "application/x-ndjson"
    TEXT = "text/plain"
    LIST = "application/json"


STREAMS = (Way.TEXT, Way.LINES, Way.EVENTS)
"""Ways to stream; a client that does not care gets the first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants."""

    way: Way
    cursor: str | None
    """As the client brought it, which may be anything; None if it is new here."""
    last: int
    """How many entries back a client without a cursor begins."""


def what_is_asked(request: Request, *, lists: bool = False) -> Asked:
    """What a request asks; with `lists` there is a list to be had, too. Raises `HTTPError` 400 for
    a `last` that is no number, and 406 if nothing we have will do."""
    way = _way(request, lists=lists)
    if way is Way.POLL:
        cursor = client_cursor(request)
    else:
        cursor = request.last_event_id or request.query.get("after", "")
    last = request.query.get("last", "0")
    if not (last.isascii() and last.isdigit() and len(last) < 10):
        raise HTTPError(400, "last is a number of entries")
    return Asked(way, cursor or None, int(last))


def _way(request: Request, *, lists: bool) -> Way:
    if "websocket" in request.headers.tokens("upgrade"):
        return Way.WEBSOCKET
    if "wait" in request.query:
        return Way.POLL
    offers = [way.value for way in STREAMS] + [Way.LIST.value] * lists
    found = preferred(request.headers.get("accept") or "*/*", offers)
    if found is None:
        raise HTTPError(406, "there is " + ", ".join(way.value for way in STREAMS), [VARY])
    return Way(found)
