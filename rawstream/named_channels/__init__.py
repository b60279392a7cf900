r"""Layer 6: channels by name, for clients that read them, publish to them and see who is there.

    GET  /channels/news               readers, in the way they ask for
    POST /channels/news    hello      {"id": "5f3a9c01-1", "entries": 1}
    GET  /channels/news@presence      who joins and leaves
    WebSocket                         joins, leaves, publishes: {"join": "news"}, {"publish": ...}

A channel exists from when its name is first asked for until nobody needs it any more. This layer
knows clients and what they may do. Where the entries are, it does not: in memory, or in what comes
next.

In reading order:

    presence.py       the members of a channel
    registry.py       many channels by name
    publishing.py     publishing by POST
    conversation.py   a WebSocket that joins, leaves and publishes
    serving.py        channels over HTTP: access, and what each method does
"""
