"""The access log, and the masking of secrets in it."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from urllib.parse import unquote_plus

access_log = logging.getLogger("rawstream.access")

_LINE = '%s "%s %s" %s %s %dB %.3fs %s'

FAMILIAR_CHARACTERS = 32
"""What is found of names up to this size is kept: an application has only a few."""

_SECRET = re.compile(
    r"token|secret|passw|pwd|key|auth|sig|session|credential|jwt"
    r"|(?<![a-z])(code|otp|pin)(?![a-z])",  # as words: not "encode", "shipping"
    re.IGNORECASE,
)


def log_line(*values: object) -> None:
    """Log one exchange: client, method, target, status, label, bytes, seconds and reason."""
    if access_log.isEnabledFor(logging.INFO):
        # As `access_log.info` does, but without looking for its caller, which is always the same.
        record = access_log.makeRecord(
            access_log.name, logging.INFO, __file__, 0, _LINE, values, None
        )
        access_log.handle(record)


def masked(target: str) -> str:
    """Return the target with "***" for the value of every query parameter whose name suggests a
    secret. URLs end up in logs, and logs are copied widely."""
    path, mark, query = target.partition("?")
    if not mark:
        return target
    return path + mark + "&".join(map(_masked_parameter, query.split("&")))


def _masked_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    secret = _is_secret_again if len(name) <= FAMILIAR_CHARACTERS else is_secret
    return f"{name}=***" if equals and secret(name) else parameter


def is_secret(name: str) -> bool:
    """Return whether the name of a query parameter suggests that its value is a secret."""
    return _SECRET.search(unquote_plus(name)) is not None


_is_secret_again = lru_cache(maxsize=256)(is_secret)
