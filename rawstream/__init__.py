"""A minimal raw-socket server on Trio: chunked streams, SSE, long-polling and WebSocket by hand."""

from .channel import Channel
from .channels import Channels, Presence
from .errors import BrokenStream, ClientGone, HTTPError, Unavailable, WebSocketClosed
from .limits import Limits
from .longpoll import Poll, open_poll
from .outgoing import MessageStream
from .reading import serve_channel
from .request import Fields, Handler, Headers, Query, Request
from .server import run, serve
from .serving import serve_channels
from .sse import Event, EventDecoder, EventStream, open_events
from .stream import Stream, open_stream
from .websocket import WebSocket, open_websocket

__all__ = [
    "BrokenStream",
    "Channel",
    "Channels",
    "ClientGone",
    "Event",
    "EventDecoder",
    "EventStream",
    "Fields",
    "HTTPError",
    "Handler",
    "Headers",
    "Limits",
    "MessageStream",
    "Poll",
    "Presence",
    "Query",
    "Request",
    "Stream",
    "Unavailable",
    "WebSocket",
    "WebSocketClosed",
    "open_events",
    "open_poll",
    "open_stream",
    "open_websocket",
    "run",
    "serve",
    "serve_channel",
    "serve_channels",
]
