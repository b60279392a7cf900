r"""Layer 3: both ways. A WebSocket begins as an HTTP request; then the connection carries frames.

    GET /echo, Upgrade: websocket          -->
                                           <--   101 Switching Protocols
    81 85 37 fa 21 3d 7f 9f 4d 51 58       -->   a text frame, masked: "Hello"
                                           <--   81 05 48 65 6c 6c 6f, not masked
    88 82 37 fa 21 3d 34 12                -->   Close, code 1000
                                           <--   88 02 03 e8, and the connection is closed

After the upgrade, this layer uses a byte stream, and no HTTP. wsproto implements the rules of
frames. Nearly all messages are whole in one frame; these are also read and written by hand.

In reading order:

    handshake.py    which requests may open a WebSocket
    deflate.py      compression: its negotiation, and how messages are inflated
    frames.py       messages in one frame, to bytes and back
    reader.py       from received bytes to messages and control frames
    writer.py       sending messages and control frames, in one order
    machine.py      the state machine of wsproto, made when it is needed
    inbox.py        received messages that the handler has not asked for yet
    receiving.py    which task reads, and when
    connection.py   the WebSocket: messages both ways, pings, and the close
    opening.py      the block in which a handler uses a WebSocket
"""
