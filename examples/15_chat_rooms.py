r"""Chapter 15: chat rooms. Presence, an acknowledgement for every message, three ways to read.

A room is a channel with a name, created on first use. `serve_channels` lets clients read, publish
and see who is there. The program adds two functions: `who` names the client of a request, and
`signed` makes an entry from the name and the text. (Clients could write any name into their texts.)

    $ python examples/15_chat_rooms.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000

Open http://127.0.0.1:8000/ in two tabs. From a terminal, publish with a POST, and read as text, as
events or by a long-poll. `last` is the number of earlier entries that a new reader receives:

    $ curl -s -d 'hi' 'http://127.0.0.1:8000/rooms/tea?name=ann'
    {"id": "5f3a9c01-1", "entries": 1}
    $ curl -s -d 'who says so?' http://127.0.0.1:8000/rooms/tea
    401 Unauthorized: say who you are: ?name=
    $ curl -sN -m 0.5 'http://127.0.0.1:8000/rooms/tea?last=10'
    {"from": "ann", "text": "hi"}
    $ curl -sN -m 0.5 -H 'Accept: text/event-stream' 'http://127.0.0.1:8000/rooms/tea?last=10'
    id: 5f3a9c01-0

    id: 5f3a9c01-1
    data: {"from": "ann", "text": "hi"}

    $ curl -s 'http://127.0.0.1:8000/rooms/tea?last=10&wait=5'
    {"entries": [{"id": "5f3a9c01-1", "data": {"from": "ann", "text": "hi"}}], "next": "5f3a9c01-1"}

An entry has the same id in all of them. A reader that comes back passes the last id it saw, as
`?after=ID` (an EventSource does this by itself), and may change to another way of reading.

A client that also sends opens a WebSocket. The server acknowledges each message with the id of its
entry and the "ref" that the client gave it; without an acknowledgement, the message may be lost.
The entry itself comes from the log, as for every reader (15_chat_rooms_client.py):

    $ python examples/15_chat_rooms_client.py ws://127.0.0.1:8000/rooms/tea bob 'I am'
    joined tea
    acknowledged: I am (5f3a9c01-2)
    bob: I am

Joining and leaving are entries of a second channel, `tea@presence`. It is read like the room, also
on the same connection (`?channel=tea@presence`, as in the page). As JSON it is the list of members,
with the cursor to continue from:

    $ curl -sN -m 3 -o /dev/null 'http://127.0.0.1:8000/rooms/tea?name=ann' & sleep 0.5;\
      curl -s -H 'Accept: application/json' http://127.0.0.1:8000/rooms/tea@presence
    {"count": 1, "members": {"ann": 1}, "next": "0c3de991-0"}

This program trusts the name in the URL. A real service takes it from a session or a token, and its
`who` raises 401 or 403 to refuse. It is called for each room, also when a WebSocket joins one.

To see the messages of the page on the wire, start the proxy in a third terminal, and open
http://127.0.0.1:8001/ in the two tabs:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer message
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now build a chat in which no message is lost unnoticed, and read it in three ways.

Two things to try: read a room as events, stop curl, publish twice, and read on after the last id.
Then add a second room to the page.
"""

import json
import sys

import rawstream
from rawstream import Channel, Channels, HTTPError, Request, serve_channels

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Chat rooms</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>
body { font: 1rem/1.5 system-ui; max-width: 40rem; margin: auto; padding: 1rem }
input, button { font: inherit }
ul:empty::before { content: "No messages yet." } #here:empty::before { content: "not connected" }
</style>
<h1>Tea room</h1>
<p><label>Who is here: <output id="here"></output></label>
<form><label>Message <input required autofocus></label> <button disabled>Send</button></form>
<ul aria-label="Messages" aria-live="polite"></ul>
<script>
if (!sessionStorage.name) sessionStorage.name = prompt("Who are you?") || "somebody";
const name = sessionStorage.name;
const [input, button] = document.forms[0], list = document.querySelector("ul");
const entries = {}, sent = new Map();  // lines by id; those not yet acknowledged by ref
let socket, cursor, people = {}, ref = 0;
function connect() {
  const query = new URLSearchParams({ name, last: 20, channel: "tea" });
  query.append("channel", "tea@presence");
  if (cursor) query.set("after", "tea:" + cursor);
  socket = new WebSocket(location.origin.replace("http", "ws") + "/rooms/?" + query);
  socket.onopen = () => button.disabled = false;
  socket.onmessage = event => {
    const message = JSON.parse(event.data), data = message.data;
    if (message.published) acknowledged(message.ref, message.published);
    else if (message.error) sent.get(message.ref).append(` (refused: ${message.text})`);
    else if (message.gap) line("(some messages may be missing here)");
    else if (message.members) show(message.members);
    else if (message.channel === "tea@presence") show({ ...people, [data.name]: data.here });
    else if (data) {
      if (!entries[message.id]) entries[message.id] = line(`${data.from}: ${data.text}`);
      list.append(entries[message.id]);  // one's own message moves to its place in the log
    }
    const room = message.channel || message.joined;
    if (room === "tea" && message.id) cursor = message.id;
  };
  socket.onclose = () => {  // a message not acknowledged may be in the log, which will show it
    for (const item of sent.values()) {
      item.remove();
      if (!input.value) input.value = item.text;
    }
    sent.clear();
    show({});
    button.disabled = true;
    setTimeout(connect, 500 + Math.random() * 1000);
  };
}
function show(now) {  // connections by name, 0 for a name that has left
  people = now;
  here.textContent = Object.keys(people).filter(name => people[name]).join(", ");
}
function line(textContent) {
  return list.appendChild(Object.assign(document.createElement("li"), { textContent }));
}
function acknowledged(ref, id) {  // this may come before the entry or after it
  if (entries[id]) sent.get(ref).remove(); else entries[id] = sent.get(ref);
  sent.delete(ref);
  entries[id].append(" (received)");
}
document.forms[0].onsubmit = event => {
  event.preventDefault();
  sent.set(++ref, Object.assign(line(`${name}: ${input.value}`), { text: input.value }));
  socket.send(JSON.stringify({ publish: input.value, channel: "tea", ref }));
  input.value = "";
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


rooms = Channels(lambda room: Channel(room, json=True), authorize=who, compose=signed)


async def app(request: Request) -> None:
    match request.path.split("/"):
        case ["", ""]:
            await request.respond(200, PAGE, content_type="text/html; charset=utf-8")
        case ["", "rooms", room]:
            await serve_channels(request, rooms, room)
        case _:
            raise HTTPError(404)


rawstream.run(app, port=PORT)
