r"""Layer 3: three ways to push data to a client. Each is a response that is sent piece by piece,
or late.

    async with open_stream(request, "text/plain") as stream:        chunks
        await stream.send(b"hello")                                 5\r\nhello\r\n

    async with open_events(request) as events:                      an event stream, in chunks
        await events.send("hello", id="1")                          15\r\nid: 1\ndata: hello\n\n\r\n

    async with open_poll(request, cursor=log.end) as poll:          one response, when there is
        await poll.answer(body, cursor=log.end, ...)                something to say

This layer builds on `Request` and on the `Body` of a response. It knows neither sockets nor
channels.

In reading order:

    stream.py     a body sent piece by piece
    event.py      one Server-Sent Event, as bytes and back
    heartbeat.py  streams with a heartbeat
    events.py     a stream of events
    lines.py      a stream of JSON, one value a line
    longpoll.py   a request that is held until there is an answer
"""
