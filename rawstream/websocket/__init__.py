r"""Layer 3: both ways. A WebSocket is an HTTP request that becomes a byte stream, and then frames.

    GET /echo, Upgrade: websocket          -->
                                           <--   101 Switching Protocols
    81 85 37 fa 21 3d 7f 9f 4d 51 58       -->   a text frame, masked: "Hello"
                                           <--   81 05 48 65 6c 6c 6f, not masked
    88 82 37 fa 21 3d 34 12                -->   Close, code 1000
                                           <--   88 02 03 e8, and the connection is closed

Once upgraded, this layer knows a byte stream, and no HTTP. wsproto knows the rules of frames; the
frames that nearly all messages are, whole and in one frame, are also read and written by hand.

In reading order:

    handshake.py    which requests may become a WebSocket
    deflate.py      compression: what is agreed on, and how messages inflate
    frames.py       a message in one frame, as bytes and back
    reader.py       bytes in, messages and control frames out
    writer.py       messages and control frames, one behind the other
    inbox.py        messages that nobody has asked for yet
    connection.py   who reads when, pings, and the order of things at the end
    opening.py      the block in which a handler uses one
"""
