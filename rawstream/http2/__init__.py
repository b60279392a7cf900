"""Layer 3, too: one connection of HTTP/2. Needs h2: `pip install "rawstream[http2]"`.

    stream 1  HEADERS GET /ticks         ->   Request    ->   handler, in a task
    stream 3  HEADERS POST /order, DATA  ->   Request    ->   another
    stream 1  HEADERS 200, DATA, DATA    <-   stream.send(...)
    stream 3  HEADERS 200, DATA          <-   request.respond(...)
    stream 1  DATA with END_STREAM       <-   the handler leaves its stream

The handlers are those of HTTP/1.1. A request is a stream of frames, and many streams share the
connection, in any order. h2 knows the frames, the windows and the compression of fields (RFC 9113,
RFC 7541). Here it is decided what becomes of them: one task for each stream, one write for all that
is sent in a pass of the scheduler, and what no client may do.

In reading order:

    guard.py          frames that are abuse, found before h2 sees them
    compression.py    field blocks that come again
    machine.py        h2's state machine, and our settings
    request_head.py   the fields of a request, checked
    response_head.py  the fields of a response
    link.py           what the exchanges of a connection share
    request_body.py   the body of a request, and the window for it
    response_body.py  the body of a response, within the client's windows
    byte_stream.py    a stream that carries another protocol
    exchange.py       one request and its response
    connection.py     one connection, from its first bytes to its close
"""
