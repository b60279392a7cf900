r"""Layer 2: requests and responses. HTTP/1.1 and 1.0, read and written through h11.

    b"GET /hello HTTP/1.1\r\n"            Request(method="GET", path="/hello", ...)
    b"Host: localhost\r\n"          -->        |
    b"\r\n"                                    v   the handler
                                          request.respond(200, b"hello\n")
    b"HTTP/1.1 200 OK\r\n"                     |
    b"Content-Length: 6\r\n"        <----------+
    b"\r\nhello\n"

This layer turns bytes into messages and back. It does not know what handlers do with them: a
handler uses an `Exchange`, one request and its response, and streams through a `Body`.

In reading order:

    fields.py         header fields and the query: names and values
    json_text.py      JSON texts on one line
    head.py           the raw head of a request, before h11 sees it
    head_reader.py    reading a head, under one deadline
    origin.py         which browser pages may send requests
    negotiation.py    which media type a client prefers
    exchange.py       the interface of one request and its response
    request.py        the request, as a handler sees it
    chunk_lines.py    checks of what stands between the chunks of a request body
    request_body.py   a request body, read through h11
    response_body.py  a response body, sent in each of its framings
    lifetime.py       how a connection ends, and why
    h11_exchange.py   the exchange over HTTP/1.x
    error_response.py which response an error gets
    access_log.py     one line for each exchange, without secrets
    connection.py     one connection, from its first byte to its close
    server.py         listeners and connections; the drain
"""
