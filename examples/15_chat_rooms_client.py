"""Chapter 15, second part: a client that says something in a room and reads until it sees that.

Messages are JSON. A request may carry a "ref", a text or an integer, and its answer has the same
one. Start 15_chat_rooms.py first.

    $ python examples/15_chat_rooms.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ python examples/15_chat_rooms_client.py ws://127.0.0.1:8000/rooms/tea ann hello
    joined tea
    acknowledged: hello (5f3a9c01-1)
    ann: hello

If the connection breaks before a message is acknowledged, the message may have arrived or not. A
client that repeats it should put a unique id into the text, so that readers can drop duplicates.

To see its messages on the wire, start the proxy in a third terminal, and connect to port 8001:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer websocket,message
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now write a program that takes part in a room, and knows which of its messages arrived.

Two things to try: send two texts at once, and match each acknowledgement by its "ref". Then send to
a new room, and read it afterwards with curl and `?last=10`.
"""

import json
import sys

from websockets.sync.client import connect

if len(sys.argv) < 4:
    sys.exit("usage: 15_chat_rooms_client.py ws://HOST:PORT/rooms/ROOM NAME TEXT...")
URL, NAME, *TEXTS = sys.argv[1:]
ROOM = URL.rpartition("/")[2]

try:
    connection = connect(f"{URL}?name={NAME}")
except ConnectionRefusedError:
    sys.exit(f"no server at {URL}: first start python examples/15_chat_rooms.py")
with connection as ws:
    for ref, text in enumerate(TEXTS):
        ws.send(json.dumps({"publish": text, "channel": ROOM, "ref": ref}))
    missing = set(TEXTS)
    while missing:
        message = json.loads(ws.recv(timeout=10))
        if "joined" in message:
            print("joined", message["joined"])
        elif "published" in message:
            print(f"acknowledged: {TEXTS[message['ref']]} ({message['published']})")
        elif "data" in message:
            entry = message["data"]
            print(f"{entry['from']}: {entry['text']}")
            if entry["from"] == NAME:
                missing.discard(entry["text"])
        else:
            sys.exit(message["text"])
