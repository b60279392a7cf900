"""Answering with lines of JSON, one value on each (application/x-ndjson)."""

from __future__ import annotations

from ..http.fields import Fields
from ..http.request import Request
from .heartbeat import BeatingStream


def open_lines(request: Request, *, headers: Fields = ()) -> BeatingStream:
    """Answer with a stream of lines, which are sent to its `body`. After `Limits.heartbeat_seconds`
    of silence it sends an empty line, which readers of such lines skip. `headers` are added."""
    fields = [
        ("Content-Type", "application/x-ndjson"),
        ("Cache-Control", "no-cache"),
        *headers,
        ("X-Accel-Buffering", "no"),
    ]
    seconds = request.exchange.limits.heartbeat_seconds
    return BeatingStream(request, "stream", fields, interval=seconds, beat=b"\n")
