"""Which of several media types a client prefers: `Accept` and its q-values.

RFC 9110 section 12.5.1. A pure function of the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .fields import FAMILIAR_CHARACTERS, LIST_ELEMENTS

_QVALUE = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


def preferred(accept: str, offers: Iterable[str]) -> str | None:
    """Return the media type of `offers` that `accept` prefers; None if it accepts none of them.
    Elements after the hundredth are ignored.

    Each offer gets the q-value of the most specific range that matches it. The highest q-value
    wins, then the more specific range, then the earlier offer.
    """
    choose = _chosen_again if len(accept) <= FAMILIAR_CHARACTERS else _chosen
    return choose(accept, tuple(offers))


def _chosen(accept: str, offers: tuple[str, ...]) -> str | None:
    elements = accept.lower().split(",", LIST_ELEMENTS)[:LIST_ELEMENTS]
    ranges = [_parsed(element) for element in elements if element.strip()]
    best, found = (0.0, 0), None
    for offer in offers:
        kind = offer.partition("/")[0] + "/*"
        rank = {"*/*": 1, kind: 2, offer: 3}
        matching = [(rank[name], q) for name, q in ranges if name in rank]
        if matching:
            specific, q = max(matching)
            if q > 0 and (q, specific) > best:
                best, found = (q, specific), offer
    return found


_chosen_again = lru_cache(maxsize=64)(_chosen)


def _parsed(part: str) -> tuple[str, float]:
    """Return a media range without its parameters, and its q-value: 1 if it has none, 0 if it is
    not a number from 0 to 1."""
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = (piece.strip() for piece in parameter.partition("="))
        if key == "q":
            return name, float(value) if _QVALUE.fullmatch(value) else 0
    return name, 1
