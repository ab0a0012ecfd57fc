"""A model hub for tests: a real server, shaped like Hugging Face's.

It answers the API and small files, and redirects to the large ones. On a second port it
is a foreign server, for the port is another one.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from jobs.trainer.contract.model_folders import SHIPPED

REVISION = "5" * 40
CARD = b"---\nlanguage: en\nlicense: cdla-sharing-1.0\n---\n# Tiny\n"
HUB_ID = "team/small"


def tiny_files() -> dict[str, bytes]:
    names = ("config.json", "generation_config.json", "tokenizer.json")
    files = {name: (SHIPPED / "tiny" / name).read_bytes() for name in names}
    weights = (SHIPPED / "tiny" / "model.safetensors").read_bytes()
    return {**files, "README.md": CARD, "model.safetensors": weights}


class FakeHub:
    """What the hub has and how it behaves; tests change it while it runs."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {HUB_ID: tiny_files()}
        # Of the API's answers by path's end: a status, and its X-Error-Code.
        self.refusals: dict[str, tuple[int, str]] = {}
        # Digests that the API tells instead of the true ones.
        self.digests: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        # Where large files are said to be; else on the hub itself.
        self.large_files_at = ""
        self.takes_ranges = True
        # The connection to a large file breaks off after so many bytes.
        self.break_after = 0
        self.pause_seconds = 0.0
        # After every byte of an answer that is no large file.
        self.drip_seconds = 0.0
        # What was asked for, and how many bytes of large files went out.
        self.paths: list[str] = []
        self.tokens: dict[str, str | None] = {}
        # Where each answer with a large file began.
        self.starts: list[int] = []
        self.bytes_served = 0
        self.url = ""
        self.foreign_url = ""

    def about(self, hub_id: str) -> dict:
        return {
            "id": hub_id,
            "sha": REVISION,
            "cardData": {"license": "cdla-sharing-1.0"},
            "siblings": [
                self._sibling(name, content)
                for name, content in self.repos[hub_id].items()
            ],
        }

    def _sibling(self, name: str, content: bytes) -> dict:
        size = self.sizes.get(name, len(content))
        if not name.endswith(".safetensors"):
            git = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
            git.update(content)
            return {"rfilename": name, "size": size, "blobId": git.hexdigest()}
        digest = self.digests.get(name, hashlib.sha256(content).hexdigest())
        lfs = {"sha256": digest, "size": size, "pointerSize": 134}
        return {"rfilename": name, "size": size, "blobId": "0" * 40, "lfs": lfs}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.hub.paths.append(path)
        self.hub.tokens[path] = self.headers.get("Authorization")
        for end, (status, code) in self.hub.refusals.items():
            if path.endswith(end):
                self._send(status, b"refused", {"X-Error-Code": code})
                return
        if path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/").partition("/revision/")[0])
        elif "/resolve/" in path:
            self._resolve(*path[1:].split(f"/resolve/{REVISION}/"))
        elif path.startswith("/large/"):
            self._large(path.removeprefix("/large/"))

    def _api(self, hub_id: str) -> None:
        if hub_id in self.hub.repos:
            self._send(200, json.dumps(self.hub.about(hub_id)).encode())
        else:
            self._send(404, b"{}")

    def _resolve(self, hub_id: str, name: str) -> None:
        if name.endswith(".safetensors"):
            place = self.hub.large_files_at or self.hub.url
            self._send(302, b"", {"Location": f"{place}/large/{hub_id}/{name}"})
        else:
            self._send(200, self.hub.repos[hub_id][name])

    def _large(self, path: str) -> None:
        hub_id, _, name = path.rpartition("/")
        content = self.hub.repos[hub_id][name]
        asked = self.headers.get("Range") if self.hub.takes_ranges else None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.hub.starts.append(start)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + self.hub.break_after if self.hub.break_after else len(content)
        for at in range(start, min(end, len(content)), 65536):
            piece = content[at : min(at + 65536, end)]
            self.hub.bytes_served += len(piece)
            try:
                self.wfile.write(piece)
            except OSError:
                break
            time.sleep(self.hub.pause_seconds)
        self.close_connection = True

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.hub.drip_seconds:
            self._drip(body)
        else:
            self.wfile.write(body)

    def _drip(self, body: bytes) -> None:
        for byte in body:
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return
            time.sleep(self.hub.drip_seconds)


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    hub.url, hub.foreign_url = (
        f"http://127.0.0.1:{server.server_port}" for server in servers
    )
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
