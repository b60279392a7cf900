"""A minimal raw-socket server on Trio: chunked streams, SSE, long-polling and WebSocket by hand."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .browser import FOLLOW_JS
from .channels.channel import Channel, Gap
from .channels.readers import Lag, serve_channel
from .entries.log import Entry
from .errors import BrokenStream, ClientGone, HTTPError, Unavailable, WebSocketClosed
from .http.fields import Fields, Headers, Query
from .http.request import Handler, Request
from .limits import Limits
from .named_channels.presence import Presence
from .named_channels.registry import Authorize, Channels, Compose, Select
from .named_channels.serving import serve_channels
from .program import run
from .server import serve, serve_stream
from .streams.event import Event, EventDecoder
from .streams.events import EventStream, open_events
from .streams.longpoll import Poll, open_poll
from .streams.stream import Stream, open_stream
from .websocket.connection import WebSocket
from .websocket.opening import open_websocket
from .websocket.writer import MessageStream

if TYPE_CHECKING:
    from .metrics.exposition import Metrics as Metrics
    from .redis.channels import RedisChannels as RedisChannels

__version__ = "0.1.0"

OF_EXTRAS = {
    "Metrics": ("metrics.exposition", "metrics"),
    "RedisChannels": ("redis.channels", "redis"),
}
"""Names that are loaded when they are first used: their modules, and the extras that these need."""

__all__ = [
    "FOLLOW_JS",
    "Authorize",
    "BrokenStream",
    "Channel",
    "Channels",
    "ClientGone",
    "Compose",
    "Entry",
    "Event",
    "EventDecoder",
    "EventStream",
    "Fields",
    "Gap",
    "HTTPError",
    "Handler",
    "Headers",
    "Lag",
    "Limits",
    "MessageStream",
    "Poll",
    "Presence",
    "Query",
    "Request",
    "Select",
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
    "serve_stream",
]


def __getattr__(name: str) -> object:
    if name not in OF_EXTRAS:
        raise AttributeError(f"module 'rawstream' has no attribute {name!r}")
    module, extra = OF_EXTRAS[name]
    try:
        return getattr(import_module(f".{module}", __name__), name)
    except ModuleNotFoundError as error:
        raise ImportError(f'{name} needs {error.name}: pip install "rawstream[{extra}]"') from None
