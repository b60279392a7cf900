r"""Layer 3: one connection of HTTP/1.1 or 1.0.

    b"GET /hello HTTP/1.1\r\n"            Request(method="GET", path="/hello", ...)
    b"Host: localhost\r\n"          -->        |
    b"\r\n"                                    v   the handler
                                          request.respond(200, b"hello\n")
    b"HTTP/1.1 200 OK\r\n"                     |
    b"Content-Length: 6\r\n"        <----------+
    b"\r\nhello\n"

This layer turns bytes into requests, and responses back into bytes.

In reading order:

    head.py           the raw head of a request, before h11 sees it
    head_reader.py    reading a head, under one deadline
    chunk_lines.py    checks of what stands between the chunks of a request body
    request_body.py   a request body, read through h11
    response_body.py  a response body, sent in each of its framings
    exchange.py       one request and its response
    connection.py     one connection, from its first byte to its close
"""
