r"""Layer 2: requests and responses, whichever version of HTTP carries them.

    GET /hello            ->   Request(method="GET", path="/hello", ...)
    Host: localhost                 |
                                    v   the handler
    200                        request.respond(200, b"hello\n")
    Content-Length: 6     <-        |
    hello\n               <---------+

A handler is given a `Request`. The request has an `Exchange`, which sends the response; a stream
sends through a `Body`. This layer says what those are. The layer above, one for each version of
HTTP, turns them into bytes.

In reading order:

    fields.py         header fields and the query: names and values
    date.py           dates
    json_text.py      JSON texts on one line
    authority.py      the host and port that a client addresses
    negotiation.py    which media type a client prefers
    forwarded.py      what trusted proxies say about a client
    exchange.py       the interface of one request and its response
    request.py        the request, as a handler sees it
    proxied.py        connections from trusted proxies, and their requests
    origin.py         which browser pages may send requests
    tokens.py         secrets in URLs
    lifetime.py       how a connection ends, and why
    observer.py       what an observer of a server is told
    context.py        what all connections of one server share
    error_response.py which response an error gets
    answering.py      how a handler answers, and what becomes of its failures
    closing.py        closing a connection
    access_log.py     the log of exchanges, without secrets
"""
