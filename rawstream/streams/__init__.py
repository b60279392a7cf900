r"""Layer 3: three ways to push down. Each is a response that is sent bit by bit, or late.

    async with open_stream(request, "text/plain") as stream:        chunks
        await stream.send(b"hello")                                 5\r\nhello\r\n

    async with open_events(request) as events:                      an event stream, in chunks
        await events.send("hello", id="1")                          15\r\nid: 1\ndata: hello\n\n\r\n

    async with open_poll(request, cursor=log.end) as poll:          one response, when there is
        await poll.answer(body, cursor=log.end, ...)                something to say

This layer stands on `Request` and the `Body` of a response. It knows no sockets, and no channels.

In reading order:

    stream.py     a body sent piece by piece: the ground on which events stand
    event.py      one Server-Sent Event, as bytes and back
    events.py     a stream of them, with heartbeats
    longpoll.py   a request that is held until there is something to answer with
"""
