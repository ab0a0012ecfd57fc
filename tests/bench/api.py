"""50 clients of the API at once, as people's scripts are: they ask, think, ask again.

make bench-api
python -m tests.bench.api 20      a shorter run, which does not count
"""

import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import requests

from tests.bench.figures import report
from tests.support.running_site import ROOT, RunningSite, wait_for

EXAMPLES = ROOT / "datasets" / "sample_data" / "capitals.jsonl"
COMMAND = Path(sys.executable).with_name("openai-ft")
NUM_CLIENTS = 50
LONG_SECONDS = 180
# Between two calls of one client, drawn anew each time. Scripts that follow a job ask
# once or twice a second; people who try a model less often.
THINK_SECONDS = (0.5, 2.5)
# How often each call is made, of 100: mostly reads, as followers and dashboards do.
MIX = {
    "list jobs": 20,
    "get job": 20,
    "events": 20,
    "checkpoints": 5,
    "list files": 10,
    "get file": 5,
    "list models": 10,
    "completion": 8,
    "upload": 2,
}
WRITES = {"completion", "upload"}


@dataclass
class Results:
    """Gathers the results of all clients: seconds of each call, and what failed."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, call: str, seconds: float, answer: requests.Response) -> None:
        with self.lock:
            self.seconds.setdefault(call, []).append(seconds)
            self.statuses[answer.status_code] += 1
            if answer.status_code != 200:
                self.wrong.append(f"{call}: {answer.status_code} {answer.text[:200]}")

    def of(self, calls: set[str]) -> list[float]:
        return [s for call in calls & self.seconds.keys() for s in self.seconds[call]]


class Client:
    """One connection, kept open, as the official client keeps it."""

    def __init__(self, url: str, key: str, job: dict[str, Any], seed: int) -> None:
        self.url = url
        self.job = job
        self.random = random.Random(seed)
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {key}"
        self.number = seed

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.url + path, timeout=130)

    def call(self, name: str) -> requests.Response:
        job = f"/fine_tuning/jobs/{self.job['id']}"
        paths = {
            "list jobs": "/fine_tuning/jobs?limit=20",
            "get job": job,
            "events": f"{job}/events?limit=20",
            "checkpoints": f"{job}/checkpoints",
            "list files": "/files?limit=20",
            "get file": f"/files/{self.job['training_file']}",
            "list models": "/models",
        }
        calls: dict[str, Callable[[], requests.Response]] = {
            "completion": self.complete,
            "upload": self.upload,
        }
        return calls[name]() if name in calls else self.get(paths[name])

    def complete(self) -> requests.Response:
        model = self.job["fine_tuned_model"]
        body = {"model": model, "prompt": "What is the capital of", "max_tokens": 8}
        return self.session.post(f"{self.url}/completions", json=body, timeout=130)

    def upload(self) -> requests.Response:
        # Each its own dataset, with versions of its own.
        files = {"file": (f"client-{self.number}.jsonl", EXAMPLES.read_bytes())}
        return self.session.post(
            f"{self.url}/files", {"purpose": "fine-tune"}, files=files, timeout=130
        )

    def work(self, until: float, results: Results) -> None:
        names, weights = list(MIX), list(MIX.values())
        # They do not all begin in the same moment.
        time.sleep(self.random.uniform(0, THINK_SECONDS[1]))
        while time.monotonic() < until:
            name = self.random.choices(names, weights)[0]
            began = time.perf_counter()
            answer = self.call(name)
            results.add(name, time.perf_counter() - began, answer)
            time.sleep(self.random.uniform(*THINK_SECONDS))


def trained_job(url: str, key: str) -> dict[str, Any]:
    """Trains a job with events and snapshots, for the clients to look at."""
    client = Client(url, key, {}, 0)
    file = client.upload().json()
    body = {"model": "tiny", "training_file": file["id"], "n_epochs": 2}
    answer = client.session.post(f"{url}/fine_tuning/jobs", json=body, timeout=60)
    path = f"/fine_tuning/jobs/{answer.json()['id']}"

    def ended() -> Any:
        job = client.get(path).json()
        return job if job["status"] in {"succeeded", "failed"} else None

    job = wait_for(ended, 120, "a job")
    assert job["status"] == "succeeded", job
    return dict(job)


def measure(url: str, key: str, seconds: float) -> Results:
    job, results = trained_job(url, key), Results()
    # The model is loaded once, and not by a client that is measured.
    Client(url, key, job, 0).complete()
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=Client(url, key, job, n).work, args=(until, results))
        for n in range(1, NUM_CLIENTS + 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def help_seconds() -> float:
    """Returns the seconds until the help page of `openai-ft` is printed."""
    began = time.perf_counter()
    subprocess.run([COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main(seconds: float) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningSite(Path(folder, "d")) as site,
    ):
        key = site.manage("create_api_key", "admin")
        results = measure(f"{site.url}/v1", key, seconds)
        for call in MIX:
            times = 1000 * np.array(results.seconds.get(call, [0.0]))
            median, p95 = np.percentile(times, [50, 95])
            print(
                f"{call:12} {len(times):6,} times, median {median:6.0f} ms, "
                f"95 of 100 within {p95:6.0f} ms, longest {times.max():6.0f} ms"
            )
        for line in results.wrong[:10]:
            print(line)
        tell = report if seconds >= LONG_SECONDS else print
        reads = results.of(set(MIX) - WRITES)
        tell("api_read_p95", 1000 * float(np.percentile(reads, 95)), "ms")
        tell("api_read_median", 1000 * float(np.percentile(reads, 50)), "ms")
        tell("api_errors", len(results.wrong), "answers")
        starts = [1000 * help_seconds() for _ in range(9)]
        tell("openai_ft_help", statistics.median(starts), "ms")
        tell("api_requests", results.statuses.total() / seconds, "requests/s")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else LONG_SECONDS)
