r"""Layer 4: entries in the order they were published, and what each transport makes of them.

    log     [ entry | entry | entry ]         events    id: 5f3a9c01-1\ndata: hello\n\n
                                      -->     lines     {"id": "5f3a9c01-1", "data": "hello"}\n
    cursor  5f3a9c01-1                        text      hello\n

A log is bounded by count and bytes. Where a reader is in it, is a cursor, which is the same on all
transports. Nothing here waits, and nothing writes to a reader: that is the next layer.

In reading order:

    cursors.py        where a reader is: one ID, or several in a vector
    log.py            the entries, bounded by count and bytes
    formats.py        the encoding of entries on each transport
    counts.py         what has become of entries, counted where somebody asks for it
    batches.py        the encoded bytes of entries, which readers share
"""
