"""Field blocks: the fields of a head, compressed by HPACK (RFC 7541 section 6).

    82                            indexed: 2 of the static table, :method: GET
    40 0a ... 0c ...              literal, both name and value, and added to the dynamic table
    5f 87 ...                     literal, its name 31 of the static table, content-type; added
    be                            indexed: 62, which is what was added last

A block may lie in several frames: HEADERS or PUSH_PROMISE, and CONTINUATION.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..field_terms import field_term
from ..head_fields import SECRET_FIELDS, URL_FIELDS
from ..scanner import Nonsense, Scanner, Steps, counted
from ..spans import Bits, Span, Term
from ..terms import FIELD_LINE
from . import terms
from .sections import Section
from .strings import integer, integer_bits, string
from .table import ENTRY_BYTES, Entry, Hpack, Table
from .text import Secrecy

UNKNOWN_NAME = b"(unknown name)"


@dataclass(frozen=True)
class _Form:
    """A representation of a field: how its first byte begins."""

    term: Term
    mark: str
    """The first bits."""
    says: str
    is_added: bool = False

    @property
    def width(self) -> int:
        """How many bits of the byte are left for an integer."""
        return 8 - len(self.mark)


_INDEXED = _Form(terms.INDEXED, "1", "indexed")
_SIZE_UPDATE = _Form(terms.NEW_SIZE, "001", "dynamic table size update")
_FORMS = (
    _INDEXED,
    _Form(terms.ADDED, "01", "literal with incremental indexing", is_added=True),
    _SIZE_UPDATE,
    _Form(terms.NEVER_INDEXED, "0001", "literal never indexed"),
    _Form(terms.NOT_ADDED, "0000", "literal without indexing"),
)


def field_block(
    section: Section, table: Table, most: int, tables: Hpack, scanner: Scanner
) -> Steps[None]:
    """Take a field block. `most`: the largest table that its reader allows."""
    yield from scanner.peek()  # the block begins where its first byte does
    with scanner.within(section.term) as span:
        section.span = span
        try:
            while (yield from scanner.peek()):
                with scanner.within(terms.FIELD) as line:
                    yield from _field(scanner, line, section, table, most, tables)
            section.is_whole = True
        except Nonsense as nonsense:
            table.lose()
            yield from scanner.rest(terms.BROKEN_BLOCK, mistake=str(nonsense))


def _field(
    scanner: Scanner, line: Span, section: Section, table: Table, most: int, tables: Hpack
) -> Steps[None]:
    form, number = yield from _form(scanner)
    if form is _SIZE_UPDATE:
        line.term = terms.SIZE_UPDATE
        line.value = counted(number, "byte")
        if number > most:
            raise Nonsense(f"the other side allows a table of {counted(most, 'byte')} only")
        if section.count:
            line.mistake = "the size is updated before the first field"
        line.detail = table.resize(number)
        return
    if not section.count and table.limit > most:
        line.mistake = f"before this the table has to shrink to {counted(most, 'byte')}"
    if form is _INDEXED:
        known = _known(table, tables, number)
        line.detail = f"{form.says}: {_place(number, tables)}"
        if known is None:
            line.value = f"what {number} stands for is not known"
            section.count += 1
            return
        entry = known
    else:
        entry = yield from _literal(scanner, line, form, number, table, tables)
    _tell(line, section, entry)


def _form(scanner: Scanner) -> Steps[tuple[_Form, int]]:
    """Take the first byte and the integer that begins in it."""
    span, [first] = yield from scanner.exactly(1, terms.INDEXED)
    form = next(form for form in _FORMS if f"{first:08b}".startswith(form.mark))
    span.term = form.term
    name = "size" if form is _SIZE_UPDATE else "index"
    span.bits = (
        Bits("", len(form.mark), form.mark, form.says, False),
        integer_bits(name, first, form.width),
    )
    span.value = ""
    number = yield from integer(scanner, first, form.width)
    span.value = f"{number:,}"
    return form, number


def _literal(
    scanner: Scanner, line: Span, form: _Form, number: int, table: Table, tables: Hpack
) -> Steps[Entry]:
    """Take name and value."""
    if number:
        known = _known(table, tables, number)
        name = known.name if known else UNKNOWN_NAME
        size = len(name)
        says = f"{form.says}; its name is {_place(number, tables)}"
    else:
        written = yield from string(scanner, terms.NAME, Secrecy.NOTHING, tables)
        name, size, says = written.value, written.size, form.says
    line.term = _term(name)
    text = yield from string(scanner, terms.VALUE, _secrecy(name), tables)
    entry = Entry(name, text.value, text.shown, size + text.size + ENTRY_BYTES)
    if form.is_added:
        says = f"{says}; {table.add(entry)}"
    line.detail = says
    return entry


def _tell(line: Span, section: Section, entry: Entry) -> None:
    """Say which field it is."""
    line.term = _term(entry.name)
    line.value = section.shortened(f"{entry.name.decode('utf-8', 'replace')}: {entry.shown}")
    if entry.name == UNKNOWN_NAME:
        section.count += 1
    else:
        mistake = section.add(entry.name, entry.value, entry.shown)
        line.mistake = line.mistake or mistake


def _known(table: Table, tables: Hpack, index: int) -> Entry | None:
    """What stands at an index; None if that cannot be known. Raises `Nonsense` if there is
    nothing."""
    found = table.entry(tables.static, index) if index else None
    if found is None and (not index or table.is_whole):
        last = len(tables.static) + len(table.entries)
        raise Nonsense(f"the tables have entries 1 to {last}, and none {index}")
    return found


def _place(index: int, tables: Hpack) -> str:
    return f"{index} of the {'static' if index <= len(tables.static) else 'dynamic'} table"


def _term(name: bytes) -> Term:
    found = terms.PSEUDO_FIELDS.get(name) or field_term(name)
    return terms.FIELD if found is FIELD_LINE else found


def _secrecy(name: bytes) -> Secrecy:
    """What of the value is to be masked; of a field whose name is not known, all."""
    if name == UNKNOWN_NAME or name.lower() in SECRET_FIELDS:
        return Secrecy.ALL
    return Secrecy.QUERY if name == b":path" or name.lower() in URL_FIELDS else Secrecy.NOTHING
