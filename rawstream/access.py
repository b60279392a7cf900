"""The access log: one line at the end of each exchange, without the secrets in its target."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_plus

logger = logging.getLogger("rawstream.access")

_SECRET = re.compile(r"token|secret|passw|pwd|key|auth|sig|session|credential|jwt", re.IGNORECASE)


def log_exchange(
    client: str,
    method: str,
    target: str,
    status: int,
    label: str,
    bytes_out: int,
    seconds: float,
    ended: str,
) -> None:
    """Log one exchange; a client on a unix socket has no address, a refused head no method."""
    logger.info(
        '%s "%s %s" %s %s %dB %.3fs %s',
        client or "-",
        method,
        masked(target),
        status or "-",
        label,
        bytes_out,
        seconds,
        ended,
    )


def masked(target: str) -> str:
    """The target with the value of every query parameter whose name smells of a secret replaced
    by "***". URLs end up in logs, and logs end up everywhere."""
    path, mark, query = target.partition("?")
    if not mark:
        return target
    return path + mark + "&".join(map(_masked_parameter, query.split("&")))


def _masked_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}=***" if equals and _SECRET.search(unquote_plus(name)) else parameter
