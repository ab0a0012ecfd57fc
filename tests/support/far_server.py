"""Another server with this API, as remote engines meet it: real HTTP, jobs by hand.

What trains and how is the test's to say: it sets statuses and adds events.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support import factories

KEY = "sk-far-side"
PATHS = [
    "/files",
    "/completions",
    "/fine_tuning/jobs",
    "/fine_tuning/jobs/{job_id}/events",
    "/fine_tuning/jobs/{job_id}/pause",
    "/fine_tuning/jobs/{job_id}/snapshots",
]
AFTER_ACTION = {"cancel": "cancelled", "pause": "paused", "resume": "queued"}
Answer = tuple[int, Any]


class FarServer:
    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.files: list[dict[str, Any]] = []
        self.first_answers: dict[str, Answer] = {}
        self.models = {"tiny"}
        self.paths = PATHS
        # Method and path of every call, and the bodies of those that changed something.
        self.calls: list[str] = []
        self.num_connections = 0
        self.bodies: list[tuple[str, Any]] = []
        # To go wrong: an answer for all calls, calls whose answer is lost, a pause.
        self.trouble: Answer | None = None
        self.lost: list[str] = []
        self.hang_seconds = 0.0
        # Before the head of a completion.
        self.silent_seconds = 0.0
        self.completion: list[dict[str, Any]] = []
        self.url = ""

    @property
    def job(self) -> dict[str, Any]:
        """The only one."""
        (job,) = self.jobs.values()
        return job

    def add(self, type: str, **data: Any) -> None:
        """Adds an event of the only job."""
        lines = self.lines[self.job["id"]]
        line = {"seq": len(lines) + 1, "time": time.time(), "type": type, **data}
        lines.append({"step": 0, **line})

    def add_step(self, step: int) -> None:
        self.add(**factories.step_event(step))

    def num_calls(self, call: str) -> int:
        return sum(made.startswith(call) for made in self.calls)

    # ----- answers

    def get(self, path: str, query: dict[str, str]) -> Answer:
        match path.split("/"):
            case ["openapi.json"]:
                return 200, {"paths": {f"/v1{path}": {} for path in self.paths}}
            case ["models", name]:
                return (200, {"id": name}) if name in self.models else unknown(name)
            case ["files"]:
                return 200, page(self.files)
            case ["fine_tuning", "jobs"]:
                wanted = query.get("metadata[client_job_id]")
                jobs = [
                    job
                    for job in self.jobs.values()
                    if wanted in (None, job["metadata"]["client_job_id"])
                ]
                return 200, page(jobs)
            case ["fine_tuning", "jobs", uid] if uid in self.jobs:
                return 200, self.jobs[uid]
            case ["fine_tuning", "jobs", uid, "events"] if uid in self.jobs:
                after = int(query.get("after", "0").rpartition("-")[2])
                lines = [line for line in self.lines[uid] if line["seq"] > after]
                limit = int(query["limit"])
                found = [{"id": line["seq"], "data": line} for line in lines[:limit]]
                return 200, {**page(found), "has_more": len(lines) > limit}
        return unknown(path)

    def post(self, path: str, body: Any, key: str) -> Answer:
        if key and key in self.first_answers:
            return self.first_answers[key]
        self.bodies.append((path, body))
        match path.split("/"):
            case ["files"]:
                answer = self.store(body)
            case ["fine_tuning", "jobs"]:
                answer = self.create(body)
            case ["fine_tuning", "jobs", uid, action] if uid in self.jobs:
                job = self.jobs[uid]
                job["status"] = AFTER_ACTION.get(action, job["status"])
                if action == "snapshots":
                    asked = max(job["snapshot_requests"], body["requests"])
                    job["snapshot_requests"] = asked
                answer = 200, job
            case _:
                answer = unknown(path)
        if key:
            self.first_answers[key] = answer
        return answer

    def create(self, body: dict[str, Any]) -> Answer:
        if body["model"] not in self.models:
            return refusal(400, f"There is no base model {body['model']}.")
        number = f"{len(self.jobs) + 1:024d}"
        job = {**body, "id": f"ftjob-{number}", "status": "queued", "total_steps": 16}
        job["snapshot_requests"] = 0
        self.jobs[job["id"]] = job
        self.lines[job["id"]] = []
        return 200, job

    def store(self, body: bytes) -> Answer:
        content = body.split(b"\r\n\r\n")[2].rsplit(b"\r\n--", 1)[0]
        file = {
            "id": f"file-{len(self.files) + 1}",
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "status": "processed",
        }
        self.files.append(file)
        return 200, file


def page(items: list[Any]) -> dict[str, Any]:
    return {"object": "list", "data": items, "has_more": False}


def refusal(status: int, message: str) -> Answer:
    return status, {"error": {"message": message, "type": "invalid_request_error"}}


def unknown(what: str) -> Answer:
    return refusal(404, f"There is no {what} here.")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, far: FarServer) -> None:
        self.far = far
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.far = self.server.far
        self.far.num_connections += 1
        super().setup()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.reply(lambda path: self.far.get(path, query))

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers.get("Idempotency-Key", "")
        json_ = self.headers["Content-Type"].rpartition("/")[2] == "json"
        body = json.loads(content) if json_ else content
        if urlsplit(self.path).path == "/v1/completions":
            self.far.calls.append("POST completions")
            self.far.bodies.append(("completions", body))
            self.send_completion(body)
            return
        self.reply(lambda path: self.far.post(path, body, key))

    def reply(self, answer_of: Any) -> None:
        path = unquote(urlsplit(self.path).path.removeprefix("/v1/"))
        call = f"{self.command} {path}"
        self.far.calls.append(call)
        time.sleep(self.far.hang_seconds)
        if self.headers["Authorization"] != f"Bearer {KEY}":
            answer = refusal(401, "This key is not known.")
        else:
            answer = self.far.trouble or answer_of(path)
        if call in self.far.lost:
            self.far.lost.remove(call)
            self.close_connection = True
            return
        self.send(*answer)

    def send(self, status: int, answer: Any) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_completion(self, body: dict[str, Any]) -> None:
        time.sleep(self.far.silent_seconds)
        if self.far.trouble:
            self.send(*self.far.trouble)
            return
        if not body.get("stream"):
            self.send(200, self.far.completion[0])
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in self.far.completion:
            data = chunk if chunk == "[DONE]" else json.dumps(chunk)
            self.wfile.write(f"data: {data}\n\n".encode())
            self.wfile.flush()
            time.sleep(self.far.hang_seconds)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def running_far() -> Iterator[FarServer]:
    far = FarServer()
    with Server(far) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        far.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield far
        server.shutdown()
