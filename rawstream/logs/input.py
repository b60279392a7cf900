"""Standard input, which is followed and passed on to standard output."""

from __future__ import annotations

import os
import signal
import stat

from .collection import Log, Logs
from .streams import Descriptor, Outlet, is_in_foreground, publish_stream


class Input:
    """Standard input, and its log."""

    status = 0

    def __init__(self, log: Log, logs: Logs) -> None:
        self._log = log
        self._logs = logs
        self._is_interrupted = False

    async def run(self) -> None:
        """Follow it to its end."""
        output = Outlet(1)
        await publish_stream(self._log.channel, Descriptor(0), output)
        output.close()
        self._logs.end(self._log)

    def take_signal(self, number: int) -> bool:
        """Return whether nothing is to be done about a signal: Ctrl-C also reaches the program at
        the other end of the pipe, whose last words are still to come."""
        if self._is_interrupted or self._log.channel.is_closed:
            return False
        self._is_interrupted = number == signal.SIGINT
        is_piped = stat.S_ISFIFO(os.fstat(0).st_mode)
        return self._is_interrupted and is_piped and is_in_foreground()
