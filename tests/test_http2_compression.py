"""Field blocks that are kept: what comes out is what hpack alone would make of them."""

from __future__ import annotations

from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from rawstream.http2.compression import KEPT_BLOCKS, BlockDecoder, BlockEncoder

NAMES = [b":status", b":path", b"date", b"etag", b"cookie"]
VALUES = [b"200", b"/", b"a", b"b" * 40, b"c" * 300]
Field = tuple[bytes, bytes]
BLOCKS = st.lists(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), min_size=1, max_size=4),
    max_size=30,
)
"""Few names and values, so that blocks come again and push one another out of the table."""
SIZES = st.dictionaries(st.integers(0, 30), st.sampled_from([0, 60, 400, 4096]), max_size=4)
"""The sizes that the table is given, by the number of the block before which it is."""


@given(BLOCKS, SIZES)
def test_blocks_are_those_of_hpack(blocks: list[list[Field]], sizes: dict[int, int]) -> None:
    ours, theirs = BlockEncoder(), Encoder()
    our_reader, their_reader = BlockDecoder(65536), Decoder()
    for number, fields in enumerate(blocks):
        if number in sizes:
            ours.header_table_size = theirs.header_table_size = sizes[number]
        block = theirs.encode(fields)
        assert ours.encode(fields) == block
        [(_, together)] = our_reader.decode(block, raw=True)
        found: object = together
        assert found == list(their_reader.decode(block, raw=True)) == fields
        assert ours.header_table.dynamic_entries == theirs.header_table.dynamic_entries
        assert our_reader.header_table.dynamic_entries == their_reader.header_table.dynamic_entries
        assert our_reader.header_table_size == their_reader.header_table_size


def test_a_block_that_comes_again_is_not_worked_out_again() -> None:
    encoder, decoder = BlockEncoder(), BlockDecoder(65536)
    fields = [(b":status", b"200"), (b"etag", b"a")]
    decoder.decode(encoder.encode(fields), raw=True)  # enters the table
    block = encoder.encode(fields)
    assert encoder.encode(fields) is block
    assert decoder.decode(block, raw=True) is decoder.decode(block, raw=True)


def test_only_so_many_are_kept() -> None:
    encoder = BlockEncoder()
    every = [[(b":status", b"200")] * n for n in range(1, 2 * KEPT_BLOCKS)]
    first = [encoder.encode(fields) for fields in every]
    assert encoder.encode(every[0]) is not first[0]
    assert encoder.encode(every[-1]) is first[-1]
