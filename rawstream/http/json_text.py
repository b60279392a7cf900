"""JSON texts on one line (RFC 8259), also for readers that know more line ends than LF."""

from __future__ import annotations

import json
from typing import NoReturn

# JSON escapes the control characters below U+0020. These three end a line, too, for some readers.
_LINE_SEPARATORS = {0x85: r"\u0085", 0x2028: r"\u2028", 0x2029: r"\u2029"}
_ON_ONE_LINE = {**_LINE_SEPARATORS, 0x0A: " ", 0x0D: " "}
_TOO_DEEP = "JSON that is nested too deeply"


def json_text(value: object) -> str:
    """The JSON text of a value, on one line. Raises `TypeError` or `ValueError` for a value that
    JSON cannot express, NaN among them."""
    try:
        text = _encode(value)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    return text if text.isascii() else text.translate(_LINE_SEPARATORS)


def on_one_line(text: str) -> str:
    """The same JSON text on one line. Raises `ValueError` if it is not JSON."""
    try:
        _decode(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(f"JSON is expected: {error}") from None
    if text.isascii() and "\n" not in text and "\r" not in text:
        return text
    # Inside strings JSON allows no line break, so those here are between tokens.
    return text.translate(_ON_ONE_LINE)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
# The values are not needed, so numbers are not converted.
_decode = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse).decode
