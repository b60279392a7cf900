"""A command whose output is followed. Each of its two streams is a pseudo-terminal of its own: most
programs write line by line to a terminal, and hold back what they write to a pipe."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import trio

from .collection import Log, Logs
from .streams import Descriptor, Outlet, is_in_foreground, publish_stream

LINGER_SECONDS = 1.0
"""How long after the end of the command its streams are followed, if others hold them open."""

EXIT = "exit"
"""The type of the entry that tells how the command has ended."""

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""The exit statuses of a shell."""


class Child:
    """A command, and its two logs."""

    def __init__(self, arguments: Sequence[str], output: Log, errors: Log, logs: Logs) -> None:
        self._arguments = arguments
        self._both = output, errors
        self._logs = logs
        self._process: trio.Process | None = None
        self._taken = set[int]()  # signals
        self._failure = 0  # the exit status of a shell that cannot run it

    async def run(self) -> None:
        """Run it, follow what it writes, and pass that on to our own stdout and stderr. When
        cancelled, the command is ended, too."""
        with (
            _pseudo_terminal() as (output, its_output),
            _pseudo_terminal() as (errors, its_errors),
        ):
            async with trio.open_nursery() as nursery:
                running = partial(
                    trio.run_process, self._arguments, stdin=None, stdout=its_output,
                    stderr=its_errors, check=False,
                )  # fmt: skip
                try:
                    self._process = await nursery.start(running)
                except OSError as error:
                    self._cannot_be_run(error)
                    return
                finally:
                    os.close(its_output)
                    os.close(its_errors)
                streams = Descriptor(output), Descriptor(errors)
                for log, stream, own in zip(self._both, streams, (1, 2), strict=True):
                    nursery.start_soon(publish_stream, log.channel, stream, Outlet(own))
                await self._process.wait()
                for stream in streams:
                    stream.end_within(LINGER_SECONDS)
        code = self._process.returncode or 0
        if code < 0:
            self._close(f"ended by signal {-code} ({signal.strsignal(-code)})")
        else:
            self._close(f"exit status {code}")

    @property
    def status(self) -> int:
        """Its exit status, once it has ended; 128 and the number of the signal that ended it."""
        code = (self._process and self._process.returncode) or self._failure
        return code if code >= 0 else 128 - code

    def take_signal(self, number: int) -> bool:
        """Take a signal that was sent to us. Return whether it is the command's to act on: the
        first of each kind is."""
        process = self._process
        if process is None or process.returncode is not None or number in self._taken:
            return False
        self._taken.add(number)
        if not (number == signal.SIGINT and is_in_foreground()):
            with suppress(ProcessLookupError):
                process.send_signal(number)
        return True

    def _cannot_be_run(self, error: OSError) -> None:
        print(f"rawstream: {self._arguments[0]}: {error.strerror}", file=sys.stderr)
        self._failure = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        self._close(f"cannot be run: {error.strerror}")

    def _close(self, text: str) -> None:
        self._both[0].channel.publish(text, EXIT)
        for log in self._both:
            self._logs.end(log)


@contextmanager
def _pseudo_terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a pseudo-terminal that changes nothing: ours, and that of the command, which
    the block closes."""
    ours, theirs = os.openpty()
    try:
        flags = termios.tcgetattr(theirs)
        flags[1] &= ~termios.OPOST  # a line end stays a line end
        flags[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, flags)
        width, height = shutil.get_terminal_size()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        yield ours, theirs
    finally:
        os.close(ours)
