"""`python -m rawstream wire`: see what passes between a client and a server, now or from a file."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TextIO

import trio

from ..arguments import port
from ..dissector.connection import Dissector
from ..dissector.spans import Layer
from ..stderr import log_to_stderr
from ..tcp.listeners import address_of, tls_context, url_of
from .capture import BadCapture, CaptureWriter, read_capture
from .ladder import Ladder
from .proxy import Target, serve_proxy
from .recorder import Recorded, View, WireRecorder
from .terminal import TerminalView, wants_color


def main(arguments: Sequence[str]) -> None:
    """Run the command. The exit status is 0, 1 if the proxy cannot start or the file cannot be
    read, 2 for an invalid option."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.file is None) == (options.to is None):
        parser.error("name a server (--to URL) or a recording (FILE)")
    if options.keyfile and not options.certfile:
        parser.error("--keyfile needs --certfile")
    log_to_stderr("INFO", "%(asctime)s %(name)s %(message)s")
    try:
        with ExitStack() as files:
            if options.file is not None:
                recording = files.enter_context(open(options.file, encoding="utf-8"))
                trio.run(_replay, recording, view(options))
            else:
                views: list[View] = [view(options)]
                if options.save:
                    file = files.enter_context(open(options.save, "w", encoding="utf-8"))
                    views.append(CaptureWriter(file))
                trio.run(_proxy, options, views)
    except BadCapture as error:
        sys.exit(f"rawstream: {options.file}: {error}")
    except OSError as error:
        sys.exit(
            f"rawstream: {error.filename or options.file or 'wire'}: {error.strerror or error}"
        )
    except ValueError as error:
        sys.exit(f"rawstream: {error}")
    except KeyboardInterrupt:  # while a recording is printed
        sys.exit(128 + signal.SIGINT)


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what of the wire is printed, and how."""
    add = parser.add_argument
    add(
        "--layer",
        metavar="NAMES",
        type=_layers,
        default=tuple(Layer),
        help=f"print only these layers, separated by commas: {', '.join(x.value for x in Layer)}",
    )
    add("--connection", metavar="N", type=int, help="print only the Nth connection")
    add("--explain", action="store_true", help="add a sentence to each term where it first appears")
    add("--all-bytes", action="store_true", help="print long content whole")


def view(options: argparse.Namespace) -> TerminalView:
    """Return the view on stdout that these options ask for."""
    ladder = Ladder(
        layers=options.layer,
        color=wants_color(sys.stdout),
        explain=options.explain,
        all_bytes=options.all_bytes,
    )
    return TerminalView(ladder, sys.stdout, options.connection)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rawstream wire",
        description="Print every byte that passes between a client and a server, layer by layer: "
        "reads and writes, HTTP, chunks, Server-Sent Events, WebSocket frames and messages. With "
        "--to this is a TCP proxy, which changes and delays nothing; with FILE it prints a "
        "recording. Passwords, cookies and tokens are masked.",
    )
    add = parser.add_argument
    add("file", nargs="?", metavar="FILE", help="a recording to print, made with --save")
    add("--to", metavar="URL", type=_target, help="the server, for example http://localhost:5000")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=port, default=8001, help="port to listen on (default: %(default)s)")
    add("--certfile", metavar="PEM", help="accept TLS (https, wss) with this certificate chain")
    add("--keyfile", metavar="PEM", help="the private key, if it is not in --certfile")
    add("--insecure", action="store_true", help="accept any certificate of the server")
    add("--save", metavar="FILE", help="also save what passes, to be printed again later")
    add_view_options(parser)
    return parser


def _layers(text: str) -> tuple[Layer, ...]:
    try:
        return tuple(Layer(name) for name in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _target(text: str) -> Target:
    try:
        return Target.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


async def _replay(recording: TextIO, shown: View) -> None:
    """Print a recording."""
    dissectors: dict[int, Dissector] = {}
    for connection, piece in sorted(read_capture(recording), key=_time):
        if piece is not None:
            dissector = dissectors.setdefault(connection, Dissector())
            await shown.show(connection, dissector.feed(piece))


def _time(recorded: Recorded) -> float:
    return recorded.piece.time if recorded.piece else 0.0


async def _proxy(options: argparse.Namespace, views: list[View]) -> None:
    """Serve the proxy until a signal ends it."""
    tls = tls_context(options.certfile, options.keyfile) if options.certfile else None
    listeners = await trio.open_tcp_listeners(options.port, host=options.host)
    url = url_of(address_of(listeners[0]), tls=tls is not None)
    print(f"rawstream wire on {url}, to {options.to.url}  (Ctrl-C stops it)", flush=True)
    recorder = WireRecorder()
    proxy = partial(
        serve_proxy, listeners, options.to, recorder, tls=tls, verify=not options.insecure
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy)
        nursery.start_soon(recorder.run, views)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()
