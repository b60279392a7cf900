"""`python -m rawstream logs`: any log or command, live in a browser or curl."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from ..arguments import (
    add_listening_options,
    add_proxy_options,
    add_request_options,
    add_tls_options,
    certfile,
    check_proxy_options,
    check_tls_options,
)
from ..http.tokens import new_token
from ..program import run
from ..stderr import log_to_stderr
from ..tcp.listeners import is_loopback_url
from .access import Access
from .app import LogsApp
from .child import Child
from .collection import Kind, Logs
from .files import FollowedFiles
from .input import Input
from .lines import readable
from .names import name_of

INPUT = "-"

LAST_LINES_SECONDS = 10
"""How long readers have to read the last lines of a command, when it has ended."""


def main(arguments: Sequence[str]) -> None:
    """Run the command. The exit status is 0 when drained or at the end of standard input, that of
    the command that it runs, 1 if the server cannot start or a file cannot be read, 2 for an
    invalid option."""
    _open_missing_descriptors()
    parser = _parser()
    ours, command = _split(arguments)
    options = parser.parse_args(ours)
    if not (options.file or command):
        parser.error("name files (FILE...), standard input (-) or a command (-- COMMAND...)")
    if options.token is not None and not re.fullmatch("[0-9A-Za-z._~-]+", options.token):
        parser.error("--token is made of letters, digits, '.', '_', '~' and '-'")
    check_tls_options(parser, options)
    check_proxy_options(parser, options)
    log_to_stderr("INFO", "%(asctime)s %(name)s %(message)s")
    try:
        following = _Following(options.file, command, stay=options.stay)
    except OSError as error:
        sys.exit(f"rawstream: {error.filename}: {error.strerror}")
    access = Access(options.token or new_token())
    app = LogsApp(following.logs, access)
    is_open = not (options.token or options.allow_host or options.trusted_proxy)

    def announce(urls: list[str]) -> None:
        if is_open and all(map(is_loopback_url, urls)):
            access.token = ""
        secret = f"/?token={access.token}" if access.token else ""
        for url in urls:
            print(
                f"rawstream logs on {url}{secret}  (Ctrl-C stops it)", file=sys.stderr, flush=True
            )

    run(
        app,
        host=options.host,
        port=options.port,
        certfile=certfile(options, (options.host, *options.allow_host)),
        keyfile=options.keyfile,
        allowed_hosts=options.allow_host,
        access_log=options.access_log,
        trusted_proxies=options.trusted_proxy,
        proxy_protocol=options.proxy_protocol,
        metrics=app.monitoring.metrics,
        alongside=partial(following.run, app),
        announce=announce,
        on_signal=following.take_signal,
    )
    sys.exit(following.status)


def _open_missing_descriptors() -> None:
    """Open standard input, output and error if the shell has closed them. Otherwise their numbers
    would be those of other files."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(fd, True)
    os.close(fd)


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Our own arguments, and the command behind `--`."""
    if "--" not in arguments:
        return arguments, ()
    at = list(arguments).index("--")
    return arguments[:at], arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rawstream logs",
        usage="rawstream logs [options] [FILE ...] [-] [-- COMMAND ...]",
        description="Follow log files, standard input or a command, and show them live: as a page "
        "in a browser, and as text, Server-Sent Events, JSON lines, long-polls or WebSockets at "
        "/logs/NAME. Files may be rotated, truncated, or come later. Others may post lines to "
        "/logs/NAME. When standard input or the command ends, and no file is followed, readers "
        "get the rest, and the program ends with the exit status of the command.",
    )
    add = parser.add_argument
    add(
        "file",
        nargs="*",
        metavar="FILE",
        help="a file, which need not exist yet; a pattern in quotes ('/var/log/*.log'), which also "
        "finds files that come later; or - for standard input, which is passed on to stdout",
    )
    add_listening_options(parser, default_port=8000)
    add_tls_options(parser)
    add(
        "--token",
        help="what readers have to show (default: on loopback nothing, else a new one, which is "
        "printed)",
    )
    add_request_options(parser, allowed_with=", with a token", access_log=False)
    add_proxy_options(parser)
    add("--stay", action="store_true", help="go on serving when the command or the input has ended")
    return parser


class _Following:
    """What is followed."""

    def __init__(self, files: Sequence[str], command: Sequence[str], *, stay: bool) -> None:
        """Raises `OSError` for a file that cannot be read."""
        self.logs = Logs()
        patterns = [file for file in files if file != INPUT]
        self._stays = stay or bool(patterns)
        self._files = FollowedFiles(patterns, self.logs)
        self._sources: list[Input | Child] = []
        if INPUT in files:
            name = name_of("stdin", self.logs.names)
            self._sources.append(
                Input(self.logs.add_ring(name, Kind.INPUT, "standard input"), self.logs)
            )
        if command:
            shown = readable(os.fsencode(shlex.join(command))).replace("\n", "\\n")
            name = name_of(Path(command[0]).name, self.logs.names)
            output = self.logs.add_ring(name, Kind.COMMAND, shown)
            of_errors = name_of(f"{name}.stderr", self.logs.names)
            errors = self.logs.add_ring(of_errors, Kind.COMMAND, shown)
            self._sources.append(Child(command, output, errors, self.logs))

    @property
    def status(self) -> int:
        """The exit status: that of the command, if there is one."""
        return max((source.status for source in self._sources), default=0)

    async def run(self, app: LogsApp) -> None:
        """Follow everything, until nothing can come any more."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._files.run)
            async with trio.open_nursery() as sources:
                for source in self._sources:
                    sources.start_soon(source.run)
            if self._stays:
                await trio.sleep_forever()
            with trio.move_on_after(LAST_LINES_SECONDS):
                await app.until_nobody_reads()
            nursery.cancel_scope.cancel()

    def take_signal(self, number: int) -> bool:
        """Return whether a signal is for what is followed, and not for us."""
        taken = [source.take_signal(number) for source in self._sources]
        return any(taken)
