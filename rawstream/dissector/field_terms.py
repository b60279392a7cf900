"""Header fields that this server and its clients use, and a sentence about each."""

from __future__ import annotations

from .spans import Layer, Term
from .terms import FIELD_LINE

_FIELDS = """\
Accept | Which kinds of content the client can use. | RFC 9110 § 12.5.1
Accept-Encoding | Which compressions the client understands. | RFC 9110 § 12.5.3
Accept-Language | Which languages the person prefers. | RFC 9110 § 12.5.4
Accept-Ranges | The server can send parts of this resource. | RFC 9110 § 14.3
Access-Control-Allow-Origin | Pages of this origin may read the answer. | Fetch § 3.3.3
Age | How many seconds ago a cache got this answer. | RFC 9111 § 5.1
Allow | The methods that the resource knows. | RFC 9110 § 10.2.1
Authorization | Who the client is: a password or a token. | RFC 9110 § 11.6.2
Cache-Control | Whether the answer may be kept, and for how long. | RFC 9111 § 5.2
Connection | What becomes of the connection after this message. | RFC 9110 § 7.6.1
Content-Encoding | The content is compressed in this way. | RFC 9110 § 8.4
Content-Length | The length of the content in bytes; the message ends there. | RFC 9110 § 8.6
Content-Range | Which part of the whole this is. | RFC 9110 § 14.4
Content-Type | What kind of data the content is. | RFC 9110 § 8.3
Cookie | What earlier answers of this site left with the client. | RFC 6265 § 4.2
Date | When the answer was made. | RFC 9110 § 6.6.1
ETag | A name for this very version of the content. | RFC 9110 § 8.8.3
Expect | The client waits for 100 Continue before it sends the content. | RFC 9110 § 10.1.1
Host | The name in the URL: one server may serve several. | RFC 9110 § 7.2
If-None-Match | Answer only if the content is not this version any more. | RFC 9110 § 13.1.2
Keep-Alive | How long an idle connection is kept. | RFC 2068 § 19.7.1.1
Last-Event-ID | The id of the last event that the client has: go on behind it. | WHATWG HTML § 9.2.4
Last-Modified | When the content last changed. | RFC 9110 § 8.8.2
Location | Where to go, or what was made. | RFC 9110 § 10.2.2
Origin | The site whose page makes this request. | RFC 6454 § 7
Range | Only this part, please. | RFC 9110 § 14.2
Referer | The page that the request comes from. | RFC 9110 § 10.1.3
Retry-After | When to try again. | RFC 9110 § 10.2.3
Sec-WebSocket-Accept | Proof that the server has read this very handshake. | RFC 6455 § 4.2.2
Sec-WebSocket-Extensions | Extensions of the protocol, such as compression. | RFC 6455 § 9.1
Sec-WebSocket-Key | 16 random bytes in Base64; the answer is computed from them. | RFC 6455 § 4.1
Sec-WebSocket-Protocol | Which protocol the messages follow. | RFC 6455 § 1.9
Sec-WebSocket-Version | The version of the WebSocket protocol: always 13. | RFC 6455 § 4.1
Server | The program that answers. | RFC 9110 § 10.2.4
Set-Cookie | Keep this, and send it with later requests. | RFC 6265 § 4.1
TE | Which transfer codings, and whether trailers, are welcome. | RFC 9110 § 10.1.4
Trailer | Which fields follow the content. | RFC 9110 § 6.6.2
Transfer-Encoding | How the content is wrapped for this connection: in chunks. | RFC 9112 § 6.1
Upgrade | Another protocol to switch to on this connection. | RFC 9110 § 7.8
User-Agent | The program that asks. | RFC 9110 § 10.1.5
Vary | Which fields of the request the answer depends on. | RFC 9110 § 12.5.5
Via | The proxies between client and server. | RFC 9110 § 7.6.3
WWW-Authenticate | How the client can prove who it is. | RFC 9110 § 11.6.1
X-Accel-Buffering | Tells nginx whether to collect the answer before it sends it on. | nginx
X-Forwarded-For | The client's address, as a proxy saw it. | RFC 7239 § 1
"""
"""Name, meaning and standard. "§" stands for "section"."""


def _terms() -> dict[bytes, Term]:
    found = {}
    for line in _FIELDS.splitlines():
        name, meaning, standard = line.split(" | ")
        section = standard.replace("§", "section")
        found[name.lower().encode()] = Term(Layer.HTTP, "field-line", meaning, section)
    return found


_TERMS = _terms()


def field_term(name: bytes) -> Term:
    """Return what is to be said of a field line with this name, in lower case."""
    return _TERMS.get(name, FIELD_LINE)


def every_term() -> tuple[Term, ...]:
    """Return the terms of the fields that are known by name."""
    return tuple(_TERMS.values())
