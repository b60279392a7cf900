r"""The bytes of a connection, taken apart layer by layer. Bytes in, spans out, no I/O.

    b"9\r\n"         chunk-size "9"          in a chunk, in the content of a response
    b"data: Hel"     chunk-data              in the same chunk
                     field, colon, value     of a line, which goes on in the next chunk
    b"\r\n"          CRLF                    the end of the chunk

The dissector knows nothing of the server, and works on anybody's connection. `Dissector.feed` takes
each read or write as it was cut, and every byte becomes part of exactly one innermost span of each
layer. Spans of one layer nest, spans of two layers cross.

In reading order:

    spans.py           what is said of bytes: layers, spans, tiles
    scanner.py         how bytes are taken apart, however they are cut
    terms.py           the elements of the protocols, and a sentence about each
    field_terms.py     the same for header fields
    urls.py            URLs, and the secrets in their queries
    head_fields.py     field lines, and those that decide how a message goes on
    http_messages.py   requests and responses
    content.py         their content: by length, in chunks, until the connection closes
    event_stream.py    Server-Sent Events
    json_lines.py      newline-delimited JSON
    frames.py          WebSocket frames
    messages.py        the messages in them: unmasked, joined, inflated
    http2/             the same over HTTP/2, in frames
    conversation.py    what the two directions must know of each other
    connection.py      both directions of a connection: `Dissector`
"""
