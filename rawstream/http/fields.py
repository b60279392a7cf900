"""Header fields and the query of a request: names and values in order of arrival."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias, TypeVar, overload
from urllib.parse import parse_qsl

Fields: TypeAlias = Sequence[tuple[str, str]]
"""Header fields to send: name and value; `("Set-Cookie", "a=1")`."""

D = TypeVar("D")

LIST_ELEMENTS = 100
"""The most elements of a list that are looked at; a list may come in several fields. 64 KiB of
commas would make all other connections wait."""

FAMILIAR_CHARACTERS = 256
"""What was read from values up to this length is kept: there are only a few that clients send."""


def checked(fields: Fields) -> tuple[tuple[str, str], ...]:
    """Return the fields as a tuple. Raises `TypeError` if one is not a pair of strings."""
    fields = tuple(fields)
    for field in fields:
        is_pair = isinstance(field, tuple) and len(field) == 2
        if not is_pair or not (isinstance(field[0], str) and isinstance(field[1], str)):
            raise TypeError(
                "headers are a sequence of (name, value) pairs of str, like [('Vary', 'Accept')], "
                f"and {field!r} is not such a pair"
            )
    return fields


def encoded(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Return the fields as bytes."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


class Pairs(Mapping[str, str]):
    """Names and values in order of arrival; a name may occur more than once."""

    __slots__ = ("_pairs",)
    _pairs: list[tuple[str, str]]

    def get_all(self, name: str) -> list[str]:
        """Return the values of this name, in order of arrival."""
        return [value for found, value in self._pairs if found == name]

    def _find(self, name: str) -> str | None:
        """Return the value of this name, or None."""
        raise NotImplementedError

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...
    @overload
    def get(self, name: str, default: str | D) -> str | D: ...
    def get(self, name: str, default: object = None) -> object:
        """Return the value of this name, or `default`."""
        value = self._find(name)
        return default if value is None else value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __getitem__(self, name: str) -> str:
        value = self._find(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._pairs!r})"


class Query(Pairs):
    """A query in `application/x-www-form-urlencoded`. Looking up a name finds its first value;
    `get_all` returns all of them."""

    __slots__ = ()

    def __init__(self, query_string: str) -> None:
        self._pairs = parse_qsl(query_string, keep_blank_values=True, errors="replace")

    def _find(self, name: str) -> str | None:
        for found, value in self._pairs:
            if found == name:
                return value
        return None


class Headers(Pairs):
    """Header fields, looked up by name in any case. Repeated fields are joined with ", "
    (RFC 9110 section 5.3); `get_all` returns them one by one."""

    __slots__ = ()

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        """The names are in lower case."""
        self._pairs = pairs

    def get_all(self, name: str) -> list[str]:
        return super().get_all(name.lower())

    def _find(self, name: str) -> str | None:
        name = name.lower()
        joined = None
        for found, value in self._pairs:
            if found == name:
                joined = value if joined is None else f"{joined}, {value}"
        return joined

    def elements(self, name: str) -> Sequence[str]:
        """Return the first hundred elements of a comma-separated list (RFC 9110 section 5.6.1)."""
        value = self._find(name)
        return _elements(value) if value else ()

    def tokens(self, name: str) -> tuple[str, ...]:
        """Return the same elements in lower case."""
        value = self._find(name)
        if not value:
            return ()
        return (_tokens_again if len(value) <= FAMILIAR_CHARACTERS else _tokens)(value)


def _elements(value: str) -> Sequence[str]:
    parts = value.split(",", LIST_ELEMENTS)[:LIST_ELEMENTS]
    return [element for part in parts if (element := part.strip(" \t"))]


def _tokens(value: str) -> tuple[str, ...]:
    return tuple(element.lower() for element in _elements(value))


_tokens_again = lru_cache(maxsize=128)(_tokens)


USUAL_NAMES = {
    name: name
    for name in b"""
        accept accept-encoding accept-language authorization cache-control connection content-length
        content-type cookie host if-none-match last-event-id origin pragma priority referer
        sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site
        sec-fetch-user sec-websocket-extensions sec-websocket-key sec-websocket-protocol
        sec-websocket-version transfer-encoding upgrade upgrade-insecure-requests user-agent
        x-forwarded-for x-forwarded-host x-forwarded-proto
    """.decode().split()
}
"""Names that all connections share. (Not by `intern`: Python 3.12 keeps interned strings for ever,
and clients choose the names.)"""


def decoded(pairs: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return received fields as `Headers`."""
    known = USUAL_NAMES.get
    return Headers(
        [
            (known(lower := name.decode("latin-1").lower(), lower), value.decode("latin-1"))
            for name, value in pairs
        ]
    )
