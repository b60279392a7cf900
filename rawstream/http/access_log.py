"""The access log, and the masking of secrets in it."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_plus

access_log = logging.getLogger("rawstream.access")

_SECRET = re.compile(
    r"token|secret|passw|pwd|key|auth|sig|session|credential|jwt"
    r"|(?<![a-z])(code|otp|pin)(?![a-z])",  # as words: not "encode", "shipping"
    re.IGNORECASE,
)


def masked(target: str) -> str:
    """Return the target with "***" for the value of every query parameter whose name suggests a
    secret. URLs end up in logs, and logs are copied widely."""
    path, mark, query = target.partition("?")
    if not mark or not ("%" in query or _SECRET.search(query)):
        return target
    return path + mark + "&".join(map(_masked_parameter, query.split("&")))


def _masked_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}=***" if equals and _SECRET.search(unquote_plus(name)) else parameter
