"""Which of several forms of an answer a client likes best: `Accept` and its q-values.

RFC 9110 section 12.5.1. A pure function of the field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .head import LIST_ELEMENTS

_QVALUE = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


def preferred(accept: str, offers: Sequence[str]) -> str | None:
    """The media type of `offers` that `accept` prefers; None if it takes none of them. What stands
    behind the hundredth element is not looked at.

    Each offer has the q-value of the most specific range that it falls under. Of those with the
    highest one that is named wins over one that only falls under "*/*", then the earlier offer.
    """
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


def _parsed(part: str) -> tuple[str, float]:
    """A media range without its parameters, and its q-value: 1 if it has none, 0 if that is no
    number from 0 to 1."""
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = (piece.strip() for piece in parameter.partition("="))
        if key == "q":
            return name, float(value) if _QVALUE.fullmatch(value) else 0
    return name, 1
