"""Dates in HTTP."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache


@lru_cache(maxsize=2)
def http_date(second: int) -> bytes:
    """Return an IMF-fixdate (RFC 9110 section 5.6.7)."""
    return formatdate(second, usegmt=True).encode()
