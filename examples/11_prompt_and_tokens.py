r"""Chapter 11: the chat pattern. A prompt goes up, tokens come down.

If only one direction is busy at a time, you need no WebSocket: a POST carries the prompt, and its
response is a stream. The client chooses the kind with `Accept`: lines of JSON (NDJSON), or events.

    $ python examples/11_prompt_and_tokens.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ curl -sN -d 'Why is the sky blue?' http://127.0.0.1:8000/generate
    {"token": "The"}
    {"token": " sky"}
    {"token": " scatters"}
    {"token": " blue."}
    {"done": true}
    $ curl -sN -H 'Accept: text/event-stream' -d 'Why?' http://127.0.0.1:8000/generate
    data: {"token": "The"}

    data: {"token": " sky"}

    data: {"token": " scatters"}

    data: {"token": " blue."}

    data: [DONE]

In NDJSON a newline is the end marker, and JSON escapes the newlines inside: five lines of code read
it in any language. Events cost a few bytes more, and browser tools can show them. An EventSource
cannot POST, so a page reads both with fetch (chapter 10).

After the head, the status 200 cannot be changed. If the model fails half-way, the stream itself
must report it; otherwise the client takes half an answer for a complete one:

    $ curl -sN -d 'please fail' http://127.0.0.1:8000/generate
    {"token": "The"}
    {"token": " sky"}
    {"error": "the model has failed"}
    $ curl -sN -H 'Accept: text/event-stream' -d 'fail' http://127.0.0.1:8000/generate | tail -n 3
    event: failed
    data: {"error": "the model has failed"}

(Do not name the event "error": an EventSource fires `error` when the connection breaks.)

When the user clicks Stop, the page aborts its fetch, and the connection closes. This cancels the
handler and with it the model, which costs money by the second. Here curl leaves:

    $ curl -sN -m 0.3 -d 'Why?' http://127.0.0.1:8000/generate
    {"token": "The"}
    {"token": " sky"}

The server's terminal:

    stopped after 2 tokens

To see the tokens on the wire, start the proxy in a third terminal, and ask port 8001. Here it
prints the lines of JSON; for the events, add `sse`:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer tcp,ndjson
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire
    $ curl -sN -d 'Why is the sky blue?' http://127.0.0.1:8001/generate | tail -n 2
    {"token": " blue."}
    {"done": true}

You can now stream the answer of a model, report its failure, and stop it when nobody reads.

Two things to try: send the JSON with a newline inside a token, and see that the lines still hold.
Then send the error with status 500, and find out why this is too late.
"""

import json
import sys
from collections.abc import Awaitable, Callable

import trio

import rawstream
from rawstream import HTTPError, Request, open_events, open_stream

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000


async def model(prompt: str, emit: Callable[[str], Awaitable[None]]) -> None:
    """Pass each token to `emit`, which returns when the token has been handed to the kernel, so the
    model cannot run ahead of a slow reader. (With an async generator instead of a callback, a
    cancelled handler would leave the generator suspended.)"""
    count = 0
    try:
        for token in ("The", " sky", " scatters", " blue."):
            if "fail" in prompt and count == 2:
                raise RuntimeError("the model has failed")
            await emit(token)
            count += 1
            await trio.sleep(0.2)
    except trio.Cancelled:
        print(f"stopped after {count} tokens")
        raise


async def generate_lines(request: Request, prompt: str) -> None:
    async with open_stream(request, "application/x-ndjson") as stream:

        async def line(value: dict[str, object]) -> None:
            await stream.send(json.dumps(value).encode() + b"\n")

        try:
            await model(prompt, lambda token: line({"token": token}))
            await line({"done": True})
        except RuntimeError as error:
            await line({"error": str(error)})


async def generate_events(request: Request, prompt: str) -> None:
    async with open_events(request) as events:
        try:
            await model(prompt, lambda token: events.send(json={"token": token}))
            await events.send("[DONE]")
        except RuntimeError as error:
            await events.send(json={"error": str(error)}, event="failed")


async def app(request: Request) -> None:
    match request.method, request.path:
        case "POST", "/generate":
            prompt = (await request.body(limit=10_000)).decode("utf-8", "replace")
            if not prompt.strip():
                raise HTTPError(400, "POST a prompt")
            if "text/event-stream" in request.headers.get("accept", ""):
                await generate_events(request, prompt)
            else:
                await generate_lines(request, prompt)
        case _, "/generate":
            raise HTTPError(405, headers=[("Allow", "POST")])
        case _:
            raise HTTPError(404)


rawstream.run(app, port=PORT, access_log=False)
