"""What a handler sees of one request, whichever HTTP version carries it."""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote

from .errors import HTTPError, reason_phrase
from .head import LIST_ELEMENTS, target_authority
from .limits import Limits
from .logs import masked
from .pacemaker import Pacemaker

Fields: TypeAlias = Sequence[tuple[str, str]]
"""Header fields to send: name and value; `("Set-Cookie", "a=1")`."""

WriteNow: TypeAlias = Callable[[bytes], int]
"""A write that does not wait; see `Exchange.write_now`."""

Handler: TypeAlias = Callable[["Request"], Awaitable[None]]
"""Answers one request. Raising `HTTPError` answers with that status, anything else with 500."""


class Exchange(Protocol):
    """One request and its response on whatever carries them: what the streams stand on.

    All sends wait for a slow reader. When the client has gone they cancel the handler.
    """

    limits: Limits
    pacemaker: Pacemaker
    label: str
    """How the response travels ("plain", "sse", ...), for the access log."""

    @property
    def sending(self) -> bool:
        """Whether a send is under way, its bytes perhaps half on the wire."""

    body_seconds: float | None
    """How long the request body may be silent; None is `Limits.body_seconds`."""

    input_over: bool
    """Set to True when the client has said its last: closing need not wait for more."""

    async def start(self, status: int, headers: Fields, length: int | None = None) -> None:
        """Send the head of a response whose body follows: `length` bytes, or until `end`."""

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; it is on the wire when this returns. Empty is nothing."""

    def frame(self, data: bytes) -> bytes:
        """The bytes that a piece of the body, not empty, is on this wire; the same for every
        exchange whose `frame_key` is the same."""

    @property
    def frame_key(self) -> str:
        """What `frame` depends on."""

    @property
    def write_now(self) -> WriteNow:
        """Takes what `frame` has made, or bytes of an upgraded protocol, without waiting: the
        count of bytes that are out. 0: none were taken, for whatever reason; send them in the
        task of the handler, which can wait. Less than all: the rest is taken as well, and goes
        out with the next `send`, be it of nothing, which somebody has to call. To be used while
        the handler, within its stream, waits, and no longer."""

    def take(self, data: bytes) -> None:
        """As `write_now`, but all is taken, wherever it goes. If a send is under way afterwards,
        somebody has to `send`, even nothing."""

    def hold_writes(self, held: bool) -> None:
        """Whether `write_now` refuses for now, because something is under way that it must not
        come into the middle of, or behind."""

    async def end(self, trailers: Fields = ()) -> None:
        """Send the end of the body, with trailer fields where the framing has a place for them."""

    async def respond(self, status: int, headers: Fields, body: bytes) -> None:
        """Send a whole response."""

    async def receive(self) -> bytes:
        """The next piece of the request body; b"" when it is over."""

    def receive_now(self) -> bytes | None:
        """Of an upgraded protocol: what is here already, or None if `receive` has to wait for it,
        or for other reasons."""

    async def take_over(self, headers: Fields) -> None:
        """Accept an upgrade. From here on `send` and `receive` carry the bytes of the other
        protocol, those that came right behind the request first; `receive` waits as long as it
        takes, and gives b"" when the client has closed."""

    def endless(self, farewell: Callable[[], Awaitable[None]] | None) -> None:
        """This response has no end of its own: when the server stops, cancel the handler at
        once and let `farewell` say goodbye on the wire. None: it has an end after all."""

    def cancel(self, ended: str, grace: float = 0) -> None:
        """Cancel the handler after `grace` seconds; the access log says `ended`."""


class Pairs(Mapping[str, str]):
    """Names and values in the order they came; a name may come more than once."""

    __slots__ = ("_pairs",)
    _pairs: list[tuple[str, str]]

    def get_all(self, name: str) -> list[str]:
        """The values of this name, in the order they came."""
        return [value for found, value in self._pairs if found == name]

    def __getitem__(self, name: str) -> str:
        if values := self.get_all(name):
            return self._one(values)
        raise KeyError(name)

    def _one(self, values: list[str]) -> str:
        return values[0]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._pairs!r})"


class Query(Pairs):
    """The query as `application/x-www-form-urlencoded`: the first value of each name, or all of
    them by `get_all`."""

    __slots__ = ()

    def __init__(self, query_string: str) -> None:
        self._pairs = parse_qsl(query_string, keep_blank_values=True, errors="replace")


class Headers(Pairs):
    """Header fields, found by name in any case. Repeated fields are joined with ", "
    (RFC 9110 section 5.3); `get_all` has them one by one."""

    __slots__ = ()

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        known = _USUAL_NAMES.get
        self._pairs = [
            (known(name.lower()) or name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in pairs
        ]

    def get_all(self, name: str) -> list[str]:
        return super().get_all(name.lower())

    def _one(self, values: list[str]) -> str:
        return ", ".join(values)

    def elements(self, name: str) -> list[str]:
        """The elements of a comma-separated list (RFC 9110 section 5.6.1), up to the hundredth."""
        parts = ",".join(self.get_all(name)).split(",", LIST_ELEMENTS)[:LIST_ELEMENTS]
        return [element for part in parts if (element := part.strip())]

    def tokens(self, name: str) -> list[str]:
        """The same in lower case."""
        return [element.lower() for element in self.elements(name)]


_USUAL_NAMES = {
    name: name.decode()
    for name in b"""
        accept accept-encoding accept-language authorization cache-control connection content-length
        content-type cookie host if-none-match last-event-id origin pragma referer sec-fetch-dest
        sec-fetch-mode sec-fetch-site sec-websocket-extensions sec-websocket-key upgrade user-agent
        sec-websocket-protocol sec-websocket-version transfer-encoding x-forwarded-for
    """.split()
}
"""The names that all connections share. (Not by `intern`: on Python 3.12 what is interned stays for
ever, and clients choose their names.)"""


class Request:
    """One request, and the way to answer it."""

    __slots__ = (
        "_query", "client", "exchange", "head_only", "headers", "http_version", "method", "path",
        "query_string", "scheme", "target",
    )  # fmt: skip

    method: str
    """GET, POST, ... A HEAD request says GET here: answer it alike, no body is sent."""
    head_only: bool
    """Whether it was a HEAD request."""
    target: str
    """The request target as it came, still percent-encoded: origin-form ("/a%20b?c=d"),
    absolute-form ("http://host/a") or "*"."""
    path: str
    """The path of the target, percent-decoded ("/a b"); "*" for `OPTIONS *`."""
    query_string: str
    """What follows the "?", still encoded; empty if there is none."""
    headers: Headers
    http_version: str
    """ "1.0" or "1.1"."""
    scheme: str
    """ "http", or "https" over TLS."""
    client: str
    """The address of the peer; empty on a unix socket."""
    exchange: Exchange
    """What carries it; for the streams, and for streams of your own."""

    def __init__(
        self,
        method: str,
        target: str,
        headers: Headers,
        exchange: Exchange,
        *,
        http_version: str = "1.1",
        scheme: str = "http",
        client: str = "",
    ) -> None:
        self.head_only = method == "HEAD"
        self.method = "GET" if self.head_only else method
        self.target = target
        path, _, self.query_string = target.partition("?")
        if not target.startswith(("/", "*")):
            path = "/" + path.partition("://")[2].partition("/")[2]
        self.path = unquote(path) if "%" in path else path
        self.headers = headers
        self.exchange = exchange
        self.http_version = http_version
        self.scheme = scheme
        self.client = client
        self._query: Query | None = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {masked(self.target)}>"

    @property
    def query(self) -> Query:
        """The parsed query: `request.query.get("wait")`."""
        if self._query is None:
            self._query = Query(self.query_string)
        return self._query

    @property
    def authority(self) -> str:
        """Host and port the client meant: of an absolute-form target, else of Host; or ""."""
        return target_authority(self.target) or self.headers.get("host", "")

    @property
    def last_event_id(self) -> str | None:
        """`Last-Event-ID`, which an EventSource sends when it comes back (WHATWG HTML, section
        9.2.4); it is UTF-8, unlike other fields. None if absent or empty."""
        value = self.headers.get("last-event-id", "")
        return value.encode("latin-1").decode("utf-8", "replace") or None

    def stream(self, *, silence: float | None = None) -> AsyncIterator[bytes]:
        """The request body piece by piece, as it arrives, in constant memory and of any size:
        `async for part in request.stream()`.

        A body that is silent for `silence` seconds, by default `Limits.body_seconds`, or
        malformed, ends the request with 408 or 400; a client that leaves before the end of its
        body cancels the handler.
        """
        self.exchange.body_seconds = silence
        return _BodyParts(self.exchange)

    async def body(self, limit: int | None = None) -> bytes:
        """The whole request body. Over `limit` bytes, by default `Limits.body_bytes`, it raises
        `HTTPError` 413, before reading any of it if its Content-Length says so."""
        if limit is None:
            limit = self.exchange.limits.body_bytes
        too_large = HTTPError(413, f"request body larger than {limit} bytes")
        if int(self.headers.get("content-length", 0)) > limit:
            raise too_large
        body = bytearray()
        while data := await self.exchange.receive():
            body += data
            if len(body) > limit:
                raise too_large
        return bytes(body)

    async def respond(
        self,
        status: int,
        body: bytes | str = b"",
        *,
        content_type: str | None = None,
        headers: Fields = (),
    ) -> None:
        """Send a whole response, with its Content-Length. `str` is sent as UTF-8; without a
        `content_type` a body is `text/plain; charset=utf-8`. An error status without a body gets
        one line that names it."""
        if not body and status >= 400:
            body = f"{status} {reason_phrase(status)}\n"
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = bytes(memoryview(body))
        if content_type is None and body:
            content_type = "text/plain; charset=utf-8"
        if content_type is not None:
            headers = [("Content-Type", content_type), *headers]
        await self.exchange.respond(status, headers, body)


class _BodyParts:
    """A request body as an iterator. No async generator: leaving one half read is a warning."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if data := await self._exchange.receive():
            return data
        raise StopAsyncIteration
