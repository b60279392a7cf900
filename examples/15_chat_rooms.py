r"""Chapter 15: chat rooms. Who is there, an answer to every message, and three ways to read along.

A room is a channel with a name, made when somebody first asks for it. `serve_channels` does what
all rooms have in common: reading, publishing, presence. Left to the program are two questions:
who is this (`who`), and what becomes of what they say (`signed`: the server puts the name on it,
for what a client says of itself nobody has to believe).

    $ python examples/15_chat_rooms.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000

Open it in two tabs. Or, where there is only a terminal, publish with a POST, and read along as
text, as events or with a poll; `last` is how far back a newcomer begins:

    $ curl -s -d 'is anybody there?' 'http://127.0.0.1:8000/rooms/tea?name=ann'
    {"id": "5f3a9c01-1", "entries": 1}
    $ curl -s -d 'who says so?' http://127.0.0.1:8000/rooms/tea
    401 Unauthorized: say who you are: ?name=
    $ curl -sN -m 0.5 'http://127.0.0.1:8000/rooms/tea?last=10'
    {"from": "ann", "text": "is anybody there?"}
    $ curl -sN -m 0.5 -H 'Accept: text/event-stream' 'http://127.0.0.1:8000/rooms/tea?last=10'
    id: 5f3a9c01-0

    id: 5f3a9c01-1
    data: {"from": "ann", "text": "is anybody there?"}

    $ curl -s 'http://127.0.0.1:8000/rooms/tea?last=10&wait=5' | python -m json.tool
    {
        "entries": [
            {
                "id": "5f3a9c01-1",
                "data": "{\"from\": \"ann\", \"text\": \"is anybody there?\"}"
            }
        ],
        "next": "5f3a9c01-1"
    }

The id is one and the same everywhere. A reader brings the last one it saw (`?after=`, or an
EventSource by itself), whichever way it reads next, and goes on behind it.

Who talks as much as listens takes a WebSocket. Every message that is published is answered with
its id, under the "ref" it came with; until then it may have been lost on the way, and is worth
sending again. The entry itself comes as it does for everybody, from the log (the client is
15_chat_rooms_client.py, forty lines with the websockets library):

    $ python examples/15_chat_rooms_client.py ws://127.0.0.1:8000/rooms/tea bob 'I am'
    joined tea
    acknowledged: I am (5f3a9c01-2)
    bob: I am

Who comes and goes is a channel, too, `tea@presence`: read it like the room, on the same connection
if you like (`?channel=tea@presence`, as the page does). As JSON it is who is there now, with the
cursor to go on from, so that nobody comes or goes unseen in between:

    $ curl -sN -m 3 -o /dev/null 'http://127.0.0.1:8000/rooms/tea?name=ann' & sleep 0.5;\
      curl -s -H 'Accept: application/json' http://127.0.0.1:8000/rooms/tea@presence
    {"count": 1, "members": {"ann": 1}, "next": "0c3de991-0"}

Names here are taken on trust. A real service has them from a session or a token, and its `who`
raises 401 or 403 for those who may not: it is asked for each room, also for one that a WebSocket
joins later.
"""

import json
import sys

import rawstream
from rawstream import Channels, HTTPError, Request, serve_channels

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000

PAGE = """<!doctype html><meta charset="utf-8"><title>chat</title>
<form><input name="text" autofocus> <button>say</button> <span id="here"></span></form><ul></ul>
<script>
const name = prompt("Who are you?") || "somebody", rooms = ["tea", "tea@presence"], cursors = {};
let socket;
function connect() {
  const query = new URLSearchParams({ name, last: 20 });
  rooms.forEach(room => query.append("channel", room));
  const after = rooms.filter(room => cursors[room]).map(room => room + ":" + cursors[room]);
  if (after.length) query.set("after", after.join());
  socket = new WebSocket(location.origin.replace("http", "ws") + "/rooms/?" + query);
  socket.onmessage = event => {
    const message = JSON.parse(event.data);
    if (message.id) cursors[message.joined ?? message.channel] = message.id;
    if (message.published) document.getElementById("m" + message.ref).textContent += " (received)";
    else if (message.gap) line("(something may be missing here)");
    else if (message.channel === "tea") show(JSON.parse(message.data));
    else if (message.members) here.textContent = Object.keys(message.members).join(", ");
    else if (message.channel) changed(message.event, JSON.parse(message.data));
  };
  socket.onclose = () => setTimeout(connect, 500 + Math.random() * 1000);
}
function line(text) {
  const item = document.querySelector("ul").appendChild(document.createElement("li"));
  item.textContent = text;
  return item;
}
function show(entry) { if (entry.from !== name) line(`${entry.from}: ${entry.text}`); }
function changed(event, who) {
  const names = new Set(here.textContent.split(", ").filter(name => name && name !== who.name));
  if (who.here) names.add(who.name);
  here.textContent = [...names].join(", ");
}
let said = 0;
document.forms[0].onsubmit = event => {
  event.preventDefault();
  const text = event.target.text.value;
  line(`${name}: ${text}`).id = "m" + said;
  socket.send(JSON.stringify({ publish: text, channel: "tea", ref: said++ }));
  event.target.reset();
};
connect();
</script>
"""


async def who(request: Request, room: str, action: str) -> str | None:
    name = request.query.get("name")
    if action == "publish" and not name:
        raise HTTPError(401, "say who you are: ?name=")
    return name


def signed(name: str | None, text: str) -> str:
    return json.dumps({"from": name, "text": text})


rooms = Channels(authorize=who, compose=signed)


async def app(request: Request) -> None:
    match request.path.split("/"):
        case ["", ""]:
            await request.respond(200, PAGE, content_type="text/html; charset=utf-8")
        case ["", "rooms", room]:
            await serve_channels(request, rooms, room)
        case _:
            raise HTTPError(404)


if __name__ == "__main__":
    rawstream.run(app, port=PORT)
