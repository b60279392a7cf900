"""Integers and strings in field blocks (RFC 7541 section 5).

5f 8b            an index of 6 bits: 31; Huffman-coded, 11 bytes
5f ff 9a 0a      a string of 127 + 26 + 10 * 128 bytes: 7 bits have no room for its length
"""

from __future__ import annotations

from ..scanner import Nonsense, Scanner, Steps, counted
from ..spans import Bits, Term
from . import terms
from .table import Hpack
from .text import Secrecy, Text

MOST_CONTINUED = 5
"""Bytes of an integer behind its first: enough for 32 bits. Longer ones are not accepted (RFC 7541
section 5.1)."""


def integer(scanner: Scanner, first: int, width: int) -> Steps[int]:
    """Take the rest of an integer that begins with the last `width` bits of a byte. Raises
    `Nonsense`."""
    largest = (1 << width) - 1
    value = first & largest
    if value < largest:
        return value
    for place in range(MOST_CONTINUED):
        span, [byte] = yield from scanner.exactly(1, terms.CONTINUED)
        value += (byte & 0x7F) << 7 * place
        goes_on = byte >> 7
        span.bits = (
            Bits("", 1, str(goes_on), "another byte follows" if goes_on else "the last", False),
            Bits("", 7, f"{byte & 0x7F:07b}", f"{byte & 0x7F} times {1 << 7 * place:,}", False),
        )
        span.value = f"{value:,}{' so far' if goes_on else ''}"
        if not goes_on:
            return value
    raise Nonsense("an integer of more than 32 bits")


def integer_bits(name: str, byte: int, width: int) -> Bits:
    """The bits of a byte that begin an integer."""
    largest = (1 << width) - 1
    value = byte & largest
    meaning = f"{value}: the following bytes are added" if value == largest else str(value)
    return Bits(name, width, f"{value:0{width}b}", meaning, False)


def string(scanner: Scanner, term: Term, secrecy: Secrecy, tables: Hpack) -> Steps[Text]:
    """Take a string: its length, and its bytes. Raises `Nonsense`."""
    span, [first] = yield from scanner.exactly(1, terms.STRING_LENGTH)
    is_coded = first >> 7
    span.bits = (
        Bits("H", 1, str(is_coded), "Huffman-coded" if is_coded else "as it is", False),
        integer_bits("string length", first, 7),
    )
    size = yield from integer(scanner, first, 7)
    coded = ", Huffman-coded" if is_coded else ""
    span.value = f"{counted(size, 'byte')}{coded}"
    text = Text(secrecy, tables if is_coded else None)
    span, _ = yield from scanner.exactly(size, term, mask=text.feed)
    text.end()
    span.value = text.shown
    span.mistake = text.mistake
    if is_coded and secrecy is not Secrecy.ALL:
        span.detail = f"Huffman code: {counted(text.size, 'byte')} in {size:,}"
    return text
