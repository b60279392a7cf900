"""The reader for browsers, follow.js, for an application to serve:

case "GET", "/follow.js":
    await request.respond(200, FOLLOW_JS, content_type="text/javascript")
"""

from __future__ import annotations

from pathlib import Path

FOLLOW_JS: bytes = Path(__file__).with_name("follow.js").read_bytes()
"""An ES module without dependencies, for a page to read channels with: `for await (const entry of
follow("/channels/news"))`. It reads in the way that gets through (a WebSocket, fetch, long-polling)
and goes on from its cursor after every interruption: nothing comes twice, and nothing is lost
without a gap that says so. Serve it as `text/javascript`; its comments say what else it does."""
