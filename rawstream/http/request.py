"""A request as its handler sees it, whichever HTTP version carries it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias
from urllib.parse import unquote

from ..errors import HTTPError, reason_phrase
from ..tcp.parts import as_bytes
from .access_log import masked
from .authority import target_authority
from .exchange import Exchange
from .fields import Fields, Headers, Query
from .forwarded import Forwarded
from .json_text import json_text

Handler: TypeAlias = Callable[["Request"], Awaitable[None]]
"""An async function that answers one request. If it raises `HTTPError`, the client is answered with
that status; for any other exception with 500."""


class Request:
    """One request, and the way to answer it."""

    __slots__ = {  # with their descriptions, which `help(Request)` shows
        "method": "GET, POST, ... A HEAD request says GET here: answer it as a GET, and the server "
        "leaves the body out. So does the CONNECT that opens a WebSocket over HTTP/2 (RFC 8441).",
        "head_only": "Whether this is a HEAD request.",
        "target": "The request target as received, percent-encoded: origin-form "
        '("/a%20b?c=d"), absolute-form ("http://host/a") or "*".',
        "path": 'The path of the target, percent-decoded ("/a b"); "*" for `OPTIONS *`.',
        "query_string": 'What follows the "?", still encoded; empty if there is none.',
        "headers": "The header fields, a `Headers`.",
        "http_version": '"1.0", "1.1" or "2".',
        "scheme": '"http", or "https" over TLS.',
        "client": "The address of the client; empty on a unix socket.",
        "forwarded": "What a trusted proxy says of the client (`client`, `scheme`, `authority`), "
        "which the attributes of these names have taken over. None if no trusted proxy sent this.",
        "exchange": "The `Exchange` that carries the request: for streams of your own.",
        "_query": "The parsed query, once it was asked for.",
    }

    method: str
    head_only: bool
    target: str
    path: str
    query_string: str
    headers: Headers
    http_version: str
    scheme: str
    client: str
    forwarded: Forwarded | None
    exchange: Exchange

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
        if target[:1] != "/" and target != "*":
            path = "/" + path.partition("://")[2].partition("/")[2]
        self.path = unquote(path) if "%" in path else path
        self.headers = headers
        self.exchange = exchange
        self.http_version = http_version
        self.scheme = scheme
        self.client = client
        self.forwarded = None
        self._query: Query | None = None if self.query_string else _NO_QUERY

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
        """The host and port that the client addressed: as a trusted proxy says, else from an
        absolute-form target, else from Host; "" if there is none of them."""
        if self.forwarded is not None and self.forwarded.authority:
            return self.forwarded.authority
        return target_authority(self.target) or self.headers.get("host", "")

    @property
    def last_event_id(self) -> str | None:
        """`Last-Event-ID`, which an EventSource sends when it reconnects (WHATWG HTML section
        9.2.4). Unlike other fields it is UTF-8. None if absent or empty."""
        value = self.headers.get("last-event-id")
        return value.encode("latin-1").decode("utf-8", "replace") if value else None

    @property
    def is_draining(self) -> bool:
        """Whether the server was told to stop, so that a load balancer should send no more requests
        here: answer its health checks with 503."""
        return self.exchange.is_draining

    def stream(self, *, silence: float | None = None) -> AsyncIterator[bytes]:
        """The request body piece by piece, as it arrives, of any size and in constant memory:
        `async for piece in request.stream()`.

        Raises `HTTPError` 400 for a malformed body. A body that is silent for `silence` seconds,
        by default `Limits.body_seconds`, ends the request with 408. A client that leaves before
        the end of its body cancels the handler.
        """
        return _BodyPieces(self.exchange, silence)

    async def body(self, limit: int | None = None) -> bytes:
        """The whole request body. Raises `HTTPError` 413 if it is larger than `limit` bytes, by
        default `Limits.body_bytes`; if Content-Length says so, before any of it is read."""
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
        json: object = ...,
        content_type: str | None = None,
        headers: Fields = (),
    ) -> None:
        """Send a whole response, with its Content-Length. `str` is sent as UTF-8, and `json` as one
        line of JSON in place of a body. `content_type` is by default `text/plain;
        charset=utf-8`, or `application/json`. An error status without a body gets one line that
        names it.

        Raises `RuntimeError` if the request has been answered already, and `TypeError` or
        `ValueError` for what cannot be sent.
        """
        if not isinstance(status, int):
            raise TypeError(f"the status is an int such as 200, not {status!r}")
        if json is not ...:
            if body:
                raise TypeError("a response has a body or json=, not both")
            body = json_text(json) + "\n"
            content_type = content_type or "application/json"
        if not body and status >= 400:
            body = f"{status} {reason_phrase(status)}\n"
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = as_bytes(body, "a body is bytes or str (json= sends other values)")
        if content_type is None and body:
            content_type = "text/plain; charset=utf-8"
        if content_type is not None:
            headers = [("Content-Type", content_type), *headers]
        await self.exchange.respond(status, headers, body)


_NO_QUERY = Query("")  # most requests have none, and many last long


class _BodyPieces:
    """A request body as an iterator. It is no async generator: to leave one of those half read is
    a warning."""

    def __init__(self, exchange: Exchange, silence: float | None) -> None:
        self._exchange = exchange
        self._silence = silence

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if data := await self._exchange.receive(self._silence):
            return data
        raise StopAsyncIteration
