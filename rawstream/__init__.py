"""A minimal raw-socket server on Trio: chunked streams, SSE, long-polling and WebSocket by hand."""

from .errors import BrokenStream, ClientGone, HTTPError, WebSocketClosed
from .limits import Limits
from .request import Fields, Handler, Headers, Query, Request
from .server import run, serve

__all__ = [
    "BrokenStream",
    "ClientGone",
    "Fields",
    "HTTPError",
    "Handler",
    "Headers",
    "Limits",
    "Query",
    "Request",
    "WebSocketClosed",
    "run",
    "serve",
]
