"""A real server that answers as a test has written down: for clients of the API."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

# A body, or a status with a body; the last one of a list is given for ever.
Answer = Any
BROKEN = "the connection breaks"


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class ScriptedApi:
    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[Request] = []

    def on(self, call: str, *answers: Answer) -> None:
        """Sets the answers of a call.

        An example is `on("GET /files", {"data": []}, (503, {...}), BROKEN)`.
        """
        self.answers[call] = list(answers)

    def asked(self, call: str) -> list[Request]:
        method, path = call.split()
        return [one for one in self.requests if one[:2] == (method, path)]

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        left = self.answers.get(f"{request.method} {request.path}")
        if not left:
            return 404, error(f"There is no {request.path} here.", code="not_found")
        found = left.pop(0) if len(left) > 1 else left[0]
        return found(request) if isinstance(found, Callable) else found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ScriptedApi

    def do(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        request = Request(
            self.command,
            parts.path.removeprefix("/v1"),
            dict(parse_qsl(parts.query)),
            {name.lower(): value for name, value in self.headers.items()},
            body,
        )
        found = self.api.answer(request)
        if found == BROKEN:
            self.close_connection = True
            self.connection.close()
            return
        self.send(*found if isinstance(found, tuple) else (200, found))

    do_GET = do_POST = do_DELETE = do

    def send(self, status: int, body: Any, headers: dict[str, str] | None = None):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "content-length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


def error(message: str, param: str | None = None, code: str | None = None) -> dict:
    detail = {"message": message, "type": "x", "param": param, "code": code}
    return {"error": detail}


def page(*items: Any, has_more: bool = False) -> dict:
    return {"object": "list", "data": list(items), "has_more": has_more}


@contextmanager
def serve() -> Iterator[ScriptedApi]:
    api = ScriptedApi()
    handler = type("ApiHandler", (Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
