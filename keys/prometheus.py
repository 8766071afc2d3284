"""Answers the HTTP requests of a Prometheus server, one for each connection: `GET /metrics`.

The SFTP server and the staff site have such a port each; the page is in Prometheus' text format.
"""

from collections.abc import Callable

MAX_REQUEST = 4096
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def respond(request: bytes, page: Callable[[], bytes]) -> bytes | None:
    """Return the response to a request; None if the request is not complete yet."""
    head, end, _ = request.partition(b"\r\n\r\n")
    if not end:
        return None if len(request) < MAX_REQUEST else _reply("431 Request Too Large")
    parts = head.split(b"\r\n", 1)[0].split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
        return _reply("400 Bad Request")
    if parts[0] != b"GET":
        return _reply("405 Method Not Allowed", more="Allow: GET\r\n")
    if parts[1].partition(b"?")[0] != b"/metrics":
        return _reply("404 Not Found")
    return _reply("200 OK", page(), f"Content-Type: {_CONTENT_TYPE}\r\n")


def _reply(status: str, body: bytes = b"", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
