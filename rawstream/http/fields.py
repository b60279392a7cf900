"""Header fields and the query of a request: names and values in the order they came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias
from urllib.parse import parse_qsl

from .head import LIST_ELEMENTS

Fields: TypeAlias = Sequence[tuple[str, str]]
"""Header fields to send: name and value; `("Set-Cookie", "a=1")`."""


def encoded(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Fields as bytes."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


class Pairs(Mapping[str, str]):
    """Names and values in the order they came; a name may come more than once."""

    __slots__ = ("_pairs",)
    _pairs: list[tuple[str, str]]

    def get_all(self, name: str) -> list[str]:
        """The values of this name, in the order they came."""
        return [value for found, value in self._pairs if found == name]

    def __getitem__(self, name: str) -> str:
        if values := self.get_all(name):
            return self._one(values)
        raise KeyError(name)

    def _one(self, values: list[str]) -> str:
        return values[0]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._pairs!r})"


class Query(Pairs):
    """The query as `application/x-www-form-urlencoded`: the first value of each name, or all of
    them by `get_all`."""

    __slots__ = ()

    def __init__(self, query_string: str) -> None:
        self._pairs = parse_qsl(query_string, keep_blank_values=True, errors="replace")


class Headers(Pairs):
    """Header fields, found by name in any case. Repeated fields are joined with ", "
    (RFC 9110 section 5.3); `get_all` has them one by one."""

    __slots__ = ()

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        known = _USUAL_NAMES.get
        self._pairs = [
            (known(name.lower()) or name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in pairs
        ]

    def get_all(self, name: str) -> list[str]:
        return super().get_all(name.lower())

    def _one(self, values: list[str]) -> str:
        return ", ".join(values)

    def elements(self, name: str) -> list[str]:
        """The elements of a comma-separated list (RFC 9110 section 5.6.1), up to the hundredth."""
        parts = ",".join(self.get_all(name)).split(",", LIST_ELEMENTS)[:LIST_ELEMENTS]
        return [element for part in parts if (element := part.strip())]

    def tokens(self, name: str) -> list[str]:
        """The same in lower case."""
        return [element.lower() for element in self.elements(name)]


_USUAL_NAMES = {
    name: name.decode()
    for name in b"""
        accept accept-encoding accept-language authorization cache-control connection content-length
        content-type cookie host if-none-match last-event-id origin pragma referer sec-fetch-dest
        sec-fetch-mode sec-fetch-site sec-websocket-extensions sec-websocket-key upgrade user-agent
        sec-websocket-protocol sec-websocket-version transfer-encoding x-forwarded-for
    """.split()
}
"""The names that all connections share. (Not by `intern`: on Python 3.12 what is interned stays for
ever, and clients choose their names.)"""
