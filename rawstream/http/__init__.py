r"""Layer 2: requests and responses. HTTP/1.1 and 1.0, read and written through h11.

    b"GET /hello HTTP/1.1\r\n"            Request(method="GET", path="/hello", ...)
    b"Host: localhost\r\n"          -->        |
    b"\r\n"                                    v   the handler
                                          request.respond(200, b"hello\n")
    b"HTTP/1.1 200 OK\r\n"                     |
    b"Content-Length: 6\r\n"        <----------+
    b"\r\nhello\n"

This layer knows bytes and messages. It does not know what handlers do with them: a handler talks
to an `Exchange`, one request and its response, and what is streamed is a `Body` under way.

In reading order:

    fields.py         header fields and the query: names and values
    head.py           the raw head of a request, before h11 sees it
    head_reader.py    reading one, under one deadline
    origin.py         which browser pages may ask
    negotiation.py    which form of an answer a client likes best
    exchange.py       what one request and its response offer, whatever carries them
    request.py        what a handler is given
    chunk_lines.py    what may stand between the chunks of a request body
    request_body.py   a request body, through h11
    response_body.py  a response body under way, in each of its framings
    lifetime.py       how a connection ends, and who decides it
    h11_exchange.py   the exchange over HTTP/1.x
    error_response.py how errors are answered
    access_log.py     one line for each exchange, without secrets
    connection.py     one connection, from its first byte to its close
    server.py         listeners and connections joined; the drain
    stderr.py         logs that never wait for their reader
    program.py        the server as a whole program: signals, exit statuses
"""
