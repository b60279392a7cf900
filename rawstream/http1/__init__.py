r"""Layer 3: one connection of HTTP/1.1 or 1.0.

    b"GET /hello HTTP/1.1\r\n"            Request(method="GET", path="/hello", ...)
    b"Host: localhost\r\n"          -->        |
    b"\r\n"                                    v   the handler
                                          request.respond(200, b"hello\n")
    b"HTTP/1.1 200 OK\r\n"                     |
    b"Content-Length: 6\r\n"        <----------+
    b"\r\nhello\n"

This layer turns bytes into requests, and responses back into bytes. h11 knows the rules. For plain
requests there is a shortcut, which has h11 make each response head only once.

In reading order:

    field_line.py     one line of a head: a field
    head.py           the raw head of a request, before h11 sees it
    head_reader.py    reading a head, under one deadline
    framing.py        what an exchange needs of HTTP/1.x: the interface of the next two
    h11_framing.py    any request and response, by a state machine of h11
    plain_lane.py     the shortcut for plain requests
    response_head.py  the heads of responses, made by h11
    chunk_lines.py    checks of what stands between the chunks of a request body
    request_body.py   a request body, read through h11
    h11_request.py    a request that h11 parses: its head, and then its body
    response_body.py  a response body, sent piece by piece
    exchange.py       one request and its response: the I/O around a framing
    connection.py     one connection, from its first byte to its close
"""
