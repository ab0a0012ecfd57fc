"""A proxy that loses answers: the request arrives, and the client never hears of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

PASSED_ON = ("Authorization", "Content-Type", "Idempotency-Key")


class DroppingProxy:
    def __init__(self, target: str) -> None:
        # Without a path.
        self.target = target
        # For example `POST /v1/files`: the next answer to it is lost.
        self.lost: list[str] = []
        self.num_lost = 0
        self.url = ""


def handler_of(proxy: DroppingProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            answer = requests.request(
                self.command,
                proxy.target + self.path,
                data=self.rfile.read(length),
                headers={k: v for k, v in self.headers.items() if k in PASSED_ON},
                timeout=30,
            )
            call = f"{self.command} {self.path.partition('?')[0]}"
            if call in proxy.lost:
                proxy.lost.remove(call)
                proxy.num_lost += 1
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = forward

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextmanager
def running_proxy(target: str) -> Iterator[DroppingProxy]:
    proxy = DroppingProxy(target)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(proxy)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        yield proxy
        server.shutdown()
