"""A second origin for a page that came over HTTP/2: one of HTTP/1.1, so that the page shows both.

    https://127.0.0.1:8000     the demo, over HTTP/2: all streams share one connection
    http://127.0.0.1:40123     this, over HTTP/1.1: each stream takes a connection

Without TLS browsers speak only HTTP/1.1. Another port is another origin, so the page does not run
out of connections of its own. It may read from here although it came by https, because a loopback
address counts as trustworthy (W3C Secure Contexts, section 3.1).
"""

from __future__ import annotations

import socket

import trio

from ..limits import Limits
from ..server import serve
from ..stderr import logger
from ..tcp.listeners import url_of
from .push import pulse

LIMITS = Limits(connections=100, drain_seconds=1)
"""A browser opens six connections. Its streams end at once when the server stops, and no client may
delay that for longer."""


class Http1Origin:
    """Serves the stream that the page opens fifty times, and nothing else."""

    def __init__(self) -> None:
        self.url = ""  # there is none
        self._listening: socket.socket | None = None

    def listen(self) -> None:
        """Take a free port, which only programs on this machine reach."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = url_of(self._listening.getsockname(), tls=False)

    async def run(self, *, access_log: bool) -> None:
        """After `listen`: serve until cancelled; then end the streams properly."""
        assert self._listening is not None
        logger.info("for comparison, event streams over HTTP/1.1 on %s", self.url)
        stop = trio.Event()
        ending = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, self._listening, access_log, stop, ending)
            try:
                await trio.sleep_forever()
            finally:
                stop.set()
                ending.deadline = trio.current_time() + 2 * LIMITS.drain_seconds

    async def _serve(
        self,
        listening: socket.socket,
        access_log: bool,
        stop: trio.Event,
        ending: trio.CancelScope,
    ) -> None:
        with ending:  # cancelled at once, it would cut the streams
            await serve(
                pulse, inherited=[listening], limits=LIMITS, access_log=access_log, stop=stop
            )
