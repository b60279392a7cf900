r"""HTTP/2, taken apart: frames, the fields in them, and the windows of what they carry.

    00 00 36  00  00  00 00 00 01      frame: 54 bytes, DATA, no flags, stream 1
    event: tick\n ...                  data, in the content of a response
                                       windows: stream 1 65,535 -> 65,481, connection ...

Frames are a layer of their own, `http2`, below `http`: a head may lie in several frames, and the
content of a message in many, between which come those of other messages. So there is one scanner
for the frames of a direction, one for each field block, and one for the content of each stream.

In reading order:

    terms.py         the elements, and a sentence about each
    frame_types.py   types, flags, error codes and settings by number
    table.py         the tables of HPACK
    text.py          strings as they arrive: decoded, with their secrets masked
    strings.py       integers and strings
    sections.py      the fields of one head, and the rules for them
    field_blocks.py  field blocks, byte by byte
    state.py         what the two directions must know of each other
    windows.py       windows, as they shrink and grow
    streams.py       messages and content
    reading.py       one direction under way
    heads.py         HEADERS, PUSH_PROMISE, CONTINUATION
    payloads.py      the payloads of all other frames
    frames.py        the preface, and frames
"""
