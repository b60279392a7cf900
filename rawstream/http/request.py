"""What a handler sees of one request, whichever HTTP version carries it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias
from urllib.parse import unquote

from ..errors import HTTPError, reason_phrase
from .access_log import masked
from .exchange import Exchange
from .fields import Fields, Headers, Query
from .head import target_authority

Handler: TypeAlias = Callable[["Request"], Awaitable[None]]
"""Answers one request. Raising `HTTPError` answers with that status, anything else with 500."""


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
        return _BodyParts(self.exchange, silence)

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

    def __init__(self, exchange: Exchange, silence: float | None) -> None:
        self._exchange = exchange
        self._silence = silence

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if data := await self._exchange.receive(self._silence):
            return data
        raise StopAsyncIteration
