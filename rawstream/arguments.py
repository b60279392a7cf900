"""Options that several commands have: how they are declared, and what is checked about them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from .http.forwarded import TrustedProxies


def port(text: str) -> int:
    """Return a TCP port; 0 stands for any that is free."""
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= number < 65536:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return number


def add_listening_options(parser: argparse.ArgumentParser, *, default_port: int) -> None:
    """Add --host and --port."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address or name to listen on; 0.0.0.0 or :: for all (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=port,
        default=default_port,
        help="port to listen on; 0 for any that is free (default: %(default)s)",
    )


def add_tls_options(parser: argparse.ArgumentParser) -> None:
    """Add --certfile, --dev-cert and --keyfile."""
    add = parser.add_mutually_exclusive_group().add_argument
    add("--certfile", metavar="PEM", help="serve TLS (https, wss) with this certificate chain")
    add(
        "--dev-cert",
        action="store_true",
        help="serve TLS with a certificate for this machine, of an authority that is made at the "
        'first time, and printed for browsers to trust (pip install "rawstream[http2]")',
    )
    parser.add_argument(
        "--keyfile", metavar="PEM", help="the private key, if it is not in --certfile"
    )


def check_tls_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program if the options of `add_tls_options` do not fit together."""
    if options.keyfile and not options.certfile:
        parser.error("--keyfile needs --certfile")


def certfile(options: argparse.Namespace, names: Iterable[str]) -> str | None:
    """Return the file of --certfile or, with --dev-cert, of a certificate for this machine and
    these names; its key is in it. If that one cannot be made, the program ends with one line on
    stderr and exit status 1."""
    if not options.dev_cert:
        return options.certfile  # type: ignore[no-any-return]
    try:
        from .dev_certificate import make_certificate
    except ImportError:
        sys.exit('rawstream: --dev-cert needs trustme: pip install "rawstream[http2]"')
    try:
        made, authority = make_certificate(names)
    except OSError as error:
        sys.exit(f"rawstream: --dev-cert: {error.filename}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"rawstream: --dev-cert: {error}")
    print(
        f"rawstream: the authority to trust, in a browser or with curl --cacert: {authority}",
        file=sys.stderr,
    )
    return str(made)


def add_request_options(
    parser: argparse.ArgumentParser, *, allowed_with: str = "", access_log: bool
) -> None:
    """Add --allow-host and --access-log. `allowed_with` says what requests for a host of
    --allow-host need; `access_log` is the default of the other."""
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help=f"also answer requests for this host name{allowed_with}; needed only when bound to "
        "loopback, where other names than local ones are refused; '*' for any; may be repeated",
    )
    parser.add_argument(
        "--access-log",
        action=argparse.BooleanOptionalAction,
        default=access_log,
        help=f"log one line for each request (default: {'on' if access_log else 'off'})",
    )


def add_proxy_options(parser: argparse.ArgumentParser) -> None:
    """Add --trusted-proxy and --proxy-protocol."""
    parser.add_argument(
        "--trusted-proxy",
        metavar="NET",
        type=_trusted_proxy,
        action="append",
        default=[],
        help="believe what proxies at this address, in this network (10.0.0.0/8), or on a unix "
        "socket (the word unix) say about clients in X-Forwarded-For, -Proto and -Host or, if "
        "there is none of these, in Forwarded; may be repeated",
    )
    parser.add_argument(
        "--proxy-protocol",
        action="store_true",
        help="take the client's address from the PROXY protocol (1 or 2), with which each "
        "connection of a --trusted-proxy then has to begin",
    )


def check_proxy_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program if the options of `add_proxy_options` do not fit together."""
    if options.proxy_protocol and not options.trusted_proxy:
        parser.error("--proxy-protocol needs --trusted-proxy: anybody could send its header")


def _trusted_proxy(text: str) -> str:
    try:
        TrustedProxies([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
