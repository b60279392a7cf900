"""A string in a field block as it arrives: decoded, and with its secrets masked.

Strings mostly come in the Huffman code of RFC 7541 appendix B, in which a character has from 5 to
30 bits. A byte is masked if any of its bits belong to a secret.
"""

from __future__ import annotations

from enum import Enum

from ...http.access_log import is_secret
from ..scanner import KEPT_BYTES
from .table import Hpack

STAR = ord("*")
MASK_RUN = 3
"""So many asterisks in a row hardly come from the Huffman code of anything: they are the mask of an
earlier recording."""


class Secrecy(Enum):
    """What of a string is to be masked."""

    NOTHING = "nothing"
    QUERY = "parameters of a query whose names suggest a secret"
    ALL = "all of it"


class Text:
    """One string."""

    def __init__(self, secrecy: Secrecy, huffman: Hpack | None = None) -> None:
        """`huffman`: the code, if the string is in it."""
        self.size = 0
        """How many characters it has."""
        self.mistake = ""
        self._secrecy = secrecy
        self._hides = secrecy is Secrecy.ALL
        self._value = bytearray()
        self._shown = bytearray(b"***" if self._hides else b"")
        self._parameter: bytearray | None = None  # the name that is under way
        self._in_query = False
        self._code = huffman
        self._state, self._flags = 0, huffman.complete if huffman else 0
        self._stars = 0  # in a row, up to here
        self._before_stars = 0
        self._is_masked = False  # already, in a recording

    @property
    def value(self) -> bytes:
        """What has arrived, decoded; of a very long string the first part."""
        return bytes(self._value)

    @property
    def shown(self) -> str:
        """The same with secrets masked."""
        return self._shown.decode("utf-8", "replace")

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they are on the wire. Return what may be shown of them."""
        if self._code is None and self._secrecy is not Secrecy.QUERY:
            self._keep(data)
            return b"*" * len(data) if self._hides else data
        shown = bytearray()
        for byte in data:
            before = self._hides
            if self._code is None:
                self._add(byte)
                hides = before and self._hides
            else:
                self._decode(byte, self._code)
                hides = before or self._hides
            shown.append(STAR if hides else byte)
        return bytes(shown)

    def end(self) -> None:
        """Note that the string is complete."""
        if self._code and not self.mistake and not self._flags & self._code.complete:
            self.mistake = "Huffman code is filled up to a byte with bits that are 1"
        if self._is_masked:
            self.mistake = ""

    def _decode(self, byte: int, code: Hpack) -> None:
        self._note_star(byte)
        if self.mistake:
            return
        for half in (byte >> 4, byte & 15):
            self._state, self._flags, character = code.huffman[self._state * 16 + half]
            if self._flags & code.fails:
                self.mistake = "there is no such Huffman code"
                return
            if self._flags & code.emits:
                self._add(character)

    def _note_star(self, byte: int) -> None:
        if byte != STAR:
            self._stars = 0
            return
        if not self._stars:
            self._before_stars = len(self._shown)
        self._stars += 1
        if self._stars == MASK_RUN and self._secrecy is not Secrecy.NOTHING:
            self._is_masked = self._hides = True
            if self._secrecy is Secrecy.QUERY:
                self._shown[self._before_stars :] = b"***"

    def _add(self, character: int) -> None:
        """Add a character."""
        if self._secrecy is Secrecy.QUERY and not self._is_masked:
            self._follow_query(character)
        self._keep(bytes((character,)))

    def _follow_query(self, character: int) -> None:
        """Decide whether from this character on the text is a secret."""
        if character == ord("&" if self._in_query else "?"):
            self._in_query, self._hides, self._parameter = True, False, bytearray()
        elif self._parameter is None:
            return
        elif character != ord("="):
            if len(self._parameter) < KEPT_BYTES:
                self._parameter.append(character)
        else:
            if is_secret(self._parameter.decode("latin-1")):
                self._keep(b"=***", only_shown=True)
                self._hides = True
            self._parameter = None

    def _keep(self, characters: bytes, *, only_shown: bool = False) -> None:
        if not only_shown:
            self.size += len(characters)
            self._value += characters[: KEPT_BYTES - len(self._value)]
        if not self._hides:
            self._shown += characters[: KEPT_BYTES - len(self._shown)]
