r"""The wire, visible: every byte that passes on a connection, layer by layer.

    reads and writes --> dissector --> spans --> ladder --> terminal
    (of our own server, of anybody's behind a proxy, of a file)

    0.201 s  #1  client <---------- 14 bytes ---------- server
        http      chunk-size: 9
                  39 0d 0a                                         9..
        http      chunk-data: data: Hel
                  64 61 74 61 3a 20 48 65 6c                       data: Hel
        sse       line: data: Hel (goes on)
                  64 61 74 61 3a 20 48 65 6c                       data: Hel

Everything up to `dissector.py` is without I/O: bytes in, spans out. The dissector knows nothing of
the server; it works on anybody's connection. Nothing below this folder imports it.

In reading order:

    spans.py           what is said of bytes: layers, spans, tiles
    scanner.py         how bytes are taken apart, however they are cut
    terms.py           the elements of the protocols, and a sentence about each
    field_terms.py     the same for header fields
    head_fields.py     field lines, and those that decide how a message goes on
    http_messages.py   requests and responses
    content.py         their content: by length, in chunks, until the connection closes
    event_stream.py    Server-Sent Events
    json_lines.py      newline-delimited JSON
    frames.py          WebSocket frames
    messages.py        the messages in them: unmasked, joined, inflated
    conversation.py    what the two directions must know of each other
    dissector.py       both directions of a connection
    recorder.py        pieces on their way to those who look
    capture.py         recordings as files
    rows.py            bytes that are explained together
    ladder.py          the wire as text
    terminal.py        that text on a terminal
    proxy.py           the bytes of anybody's server
    command.py         `python -m rawstream wire`
"""
