"""The command line: `python -m rawstream` serves the demo, or a handler that is named."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from rawstream import __version__

from .arguments import (
    add_listening_options,
    add_proxy_options,
    add_request_options,
    add_tls_options,
    certfile,
    check_proxy_options,
    check_tls_options,
)
from .http.request import Handler
from .http.tokens import new_token
from .limits import Limits
from .monitoring import Monitoring
from .program import run
from .server import UNIX_MODE
from .stderr import log_to_stderr
from .tcp.listeners import is_loopback_url
from .wire import command as wire_command
from .wire.live import EVENTS_PATH, LiveWire
from .wire.recorder import View, WireRecorder

DEMO = "demo"
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, which may begin with `wire` or `logs`. The exit status is 0 when
    drained, 1 if the server could not start, 2 for an invalid option."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["wire"]:
        wire_command.main(arguments[1:])
        return
    if arguments[:1] == ["logs"]:
        try:
            from .logs import command as logs_command
        except ImportError as error:  # Windows has no pseudo-terminals
            sys.exit(f"rawstream: this system cannot follow logs: {error}")
        logs_command.main(arguments[1:])
        return
    parser = _parser()
    options = parser.parse_args(arguments)
    _check(parser, options)
    log_to_stderr(options.log_level.upper(), "%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        limits = _limits(options.limit)
        handler, to_try = _app(options.app)
    except _Unusable as error:
        parser.error(str(error))
    is_demo = options.app == DEMO
    views: list[View] = [wire_command.view(options)] if options.wire else []
    recorder = live = metrics = None
    alongside: list[Callable[[], Awaitable[None]]] = []
    if options.wire or is_demo:
        recorder = WireRecorder(on_demand=not options.wire, left_out=EVENTS_PATH)
    if recorder and is_demo:
        live = LiveWire(recorder, token=new_token())
        handler = live.beside(handler)
        views.append(live)
    if recorder:
        alongside.append(partial(recorder.run, views))
    if options.redis:
        alongside.append(_shared_channels(parser, options.redis))
    if live:
        from .demo import channels as demo

        monitoring = Monitoring({"channels": demo.channels})
        handler, metrics = monitoring.beside(handler, live.check_token), monitoring.metrics
    if is_demo and options.dev_cert:
        from .demo.app import http1_origin

        http1_origin.listen()
        alongside.append(partial(http1_origin.run, access_log=options.access_log))
    run(
        handler,
        host=options.host,
        port=options.port,
        unix=options.unix,
        unix_mode=options.unix_mode,
        certfile=certfile(options, (options.host, *options.allow_host)),
        keyfile=options.keyfile,
        limits=limits,
        allowed_hosts=options.allow_host,
        access_log=options.access_log,
        trusted_proxies=options.trusted_proxy,
        proxy_protocol=options.proxy_protocol,
        reuse_port=options.reuse_port,
        recorder=recorder,
        metrics=metrics,
        alongside=partial(_all_of, alongside) if alongside else None,
        announce=partial(
            _announce, to_try, live, bool(options.allow_host or options.trusted_proxy)
        ),
    )


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program if options do not fit together."""
    check_tls_options(parser, options)
    check_proxy_options(parser, options)
    if options.dev_cert and options.unix:
        parser.error("--dev-cert is for a port, not for --unix")
    if options.reuse_port and options.unix:
        parser.error("--reuse-port is for a port, not for --unix")
    if wire_command.asks_for_a_view(options) and not options.wire:
        parser.error("--layer, --connection, --explain and --all-bytes need --wire")
    if options.redis and options.app != DEMO:
        parser.error("--redis is for the demo; a handler makes its own RedisChannels(URL)")


def _shared_channels(parser: argparse.ArgumentParser, url: str) -> Callable[[], Awaitable[None]]:
    """Keep the channels of the demo in Redis, and return what has to run beside the server."""
    from .demo.channels import share

    try:
        return share(url)
    except ImportError:
        sys.exit('rawstream: --redis needs coredis: pip install "rawstream[redis]"')
    except ValueError as error:
        parser.error(f"--redis: {error}")


class _Unusable(Exception):
    """An invalid argument."""


async def _all_of(functions: Sequence[Callable[[], Awaitable[None]]]) -> None:
    async with trio.open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(function)


def _parser() -> argparse.ArgumentParser:
    numbers = ", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(Limits))
    parser = argparse.ArgumentParser(
        prog="rawstream",
        description="Serve the demo, or a handler of your own: an async function that takes a "
        "rawstream.Request. SIGTERM and Ctrl-C drain the server: streams end properly, and other "
        "requests may finish. A second signal ends it at once. Sockets passed by systemd are "
        "used instead of --host, --port and --unix. Two other commands: `rawstream logs` follows "
        "log files and commands, `rawstream wire` shows the bytes of any connection.",
        epilog=f"The limits and their defaults (times in seconds, sizes in bytes): {numbers}.",
    )
    add = parser.add_argument
    add(
        "app",
        nargs="?",
        default=DEMO,
        metavar="demo | package.module:handler",
        help="what to serve (default: demo); modules are looked up in the current folder first, "
        "like those of python -m",
    )
    add_listening_options(parser, default_port=8000)
    add("--unix", metavar="PATH", help="listen on this unix socket instead of a port")
    add(
        "--unix-mode",
        metavar="OCTAL",
        type=_mode,
        default=UNIX_MODE,
        help=f"permissions of the unix socket (default: {UNIX_MODE:o})",
    )
    add(
        "--reuse-port",
        action="store_true",
        help="let several processes of the same user listen on the port, which share the "
        "connections; one that ends resets those that it has not accepted yet",
    )
    add_tls_options(parser)
    add_request_options(parser, access_log=True)
    add_proxy_options(parser)
    add(
        "--limit",
        metavar="NAME=NUMBER",
        action="append",
        default=[],
        help="change a limit, for example drain_seconds=30; may be repeated",
    )
    add(
        "--redis",
        metavar="URL",
        help="keep the channels of the demo in Redis (redis://HOST:PORT), so that any number of "
        'processes share them (pip install "rawstream[redis]")',
    )
    add(
        "--log-level",
        choices=LOG_LEVELS,
        default="info",
        help="least severe messages that are logged to stderr (default: %(default)s)",
    )
    add(
        "--wire",
        action="store_true",
        help="print every byte of every connection, layer by layer (see also: rawstream wire -h)",
    )
    wire_command.add_view_options(parser)
    add("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _mode(text: str) -> int:
    mode = int(text, 8)
    if not 0 <= mode <= 0o777:
        raise argparse.ArgumentTypeError("permissions are three octal digits, as in 660")
    return mode


def _limits(settings: Sequence[str]) -> Limits:
    """The default limits with these settings changed. Raises `_Unusable`."""
    defaults = {field.name: field.default for field in dataclasses.fields(Limits)}
    changes: dict[str, float] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise _Unusable(f"--limit {setting}: write NAME=NUMBER")
        if name not in defaults:
            raise _Unusable(f"--limit {setting}: there is no such limit; --help lists them")
        number = float if name.endswith("_seconds") else int
        try:
            changes[name] = number(text)
        except ValueError:
            raise _Unusable(f"--limit {setting}: the value is not a number") from None
    try:
        return Limits(**changes)  # type: ignore[arg-type]
    except ValueError as error:
        raise _Unusable(f"--limit: {error}") from None


def _app(name: str) -> tuple[Handler, str]:
    """The handler of this name, and command lines to try it with, in which `{url}` is a
    placeholder. Raises `_Unusable` if there is no such handler. Other exceptions come from the
    module itself."""
    if name == DEMO:
        from .demo.app import CURL_LINES, app

        return app, CURL_LINES
    module_name, colon, attribute = name.partition(":")
    if module_name.endswith(".py"):
        better = f"{module_name[:-3].replace('/', '.')}:{attribute or 'handler'}"
        raise _Unusable(f"name the module, not its file: {better}")
    if not (module_name and colon and attribute) or module_name.startswith("."):
        raise _Unusable(f"{name!r} is neither {DEMO!r} nor package.module:handler")
    sys.path.insert(0, "")  # `python -m` does this, the `rawstream` command does not
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise _Unusable(
            f"there is no module {error.name!r} in the current folder or among those installed"
        ) from None
    handler = getattr(module, attribute, None)
    if handler is None:
        raise _Unusable(f"{module_name} has no handler {attribute!r}")
    if not callable(handler):
        kind = type(handler).__name__
        raise _Unusable(f"{name} is a {kind}, not an async function that takes a Request")
    return handler, ""


def _announce(to_try: str, live: LiveWire | None, proxied: bool, urls: list[str]) -> None:
    # A server that answers to a name may stand behind a proxy, and be reached from anywhere.
    if live and not proxied and all(map(is_loopback_url, urls)):
        live.token = ""
    try:
        for url in urls:
            print(f"rawstream on {url}  (Ctrl-C stops it)", flush=True)
        is_http = urls[0].startswith("http")  # not a unix socket
        if to_try and is_http:
            to_try = to_try.format(url=urls[0])
            print(f"\nOpen it in a browser, or try:\n\n{to_try}\n", flush=True)
        if live and live.token:
            url = f"{urls[0] if is_http else ''}/?token={live.token}"
            print(f"With the bytes of all connections: {url}", flush=True)
    except OSError:
        # What nobody can read is still in the buffer: Python would try again as it exits, and fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


if __name__ == "__main__":
    main()
