"""Two real sites on two ports: jobs that are started on one and run on the other."""

import json
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from subprocess import CalledProcessError

import psutil
import pytest
import requests

from tests.support.dropping_proxy import running_proxy
from tests.support.running_site import RunningSite, wait_for
from tests.support.visitor import Visitor, write_short_jokes

pytestmark = pytest.mark.long

FINAL = ("succeeded", "failed", "cancelled")
# Some 28 steps an epoch.
SHORT = {"epochs": 1, "max_tokens": 64, "completions_every": 20, "snapshots_every": 20}
LONG = {**SHORT, "epochs": 3}
# How late an event may be on the live page. It comes within a second, unless other
# tests have the cores; a site that waited for an answer would take a minute.
LATE_SECONDS = 10.0


class Pair:
    """Site `near` with a dataset and the engine `lab`, which is site `far`."""

    def __init__(self, near: RunningSite, far: RunningSite) -> None:
        self.near, self.far = near, far
        self.visitor, self.far_visitor = Visitor(near), Visitor(far)
        self.key = far.manage("create_api_key", "neighbour")
        self.add_engine("lab", far.url)
        self.visitor.upload(write_short_jokes(near.data_dir.parent), "Jokes")
        self.version_id = wait_for(self.ready_version, 30, "the import")

    def add_engine(self, name: str, url: str) -> str:
        address = ["--url", f"{url}/v1", "--key", self.key, "--allow-private"]
        return self.near.manage("engine", "add", name, "--kind", "remote", *address)

    def ready_version(self) -> int:
        query = "SELECT id FROM datasets_datasetversion WHERE status = 'ready'"
        rows = self.visitor.rows(query)
        return rows and rows[0]["id"]

    def start_job(self, engine: str = "lab", **settings) -> int:
        return self.visitor.start_job(
            dataset_version=self.version_id, engine=engine, **{**SHORT, **settings}
        )

    def status(self, job_id: int) -> str:
        return self.visitor.job(job_id)["status"]

    def message(self, job_id: int) -> str:
        return self.visitor.job(job_id)["status_message"]

    def wait_for_step(self, job_id: int, step: int) -> None:
        wait_for(
            lambda: self.visitor.job(job_id)["step"] >= step, 90, f"step {step} here"
        )

    def wait_for_end(self, job_id: int) -> str:
        wait_for(lambda: self.status(job_id) in FINAL, 180, "the end of the job")
        return f"{self.status(job_id)}{self.message(job_id)}"

    def far_jobs(self) -> list:
        return self.far_visitor.rows("SELECT * FROM jobs_job")

    def far_job(self, job_id: int):
        uid = self.visitor.job(job_id)["far_uid"]
        (job,) = self.far_visitor.rows("SELECT * FROM jobs_job WHERE uid = ?", uid)
        return job

    def kill_far(self) -> None:
        """Kills all processes of the other side at once, the trainer too."""
        pids = {
            process.pid
            for process in psutil.process_iter()
            if folder_of(process) == str(self.far.data_dir)
        }
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.far.process.wait()

    def restart_far(self) -> None:
        self.far = RunningSite(self.far.data_dir, port=self.far.port)
        self.far.wait_until_healthy()

    def same_steps(self, job_id: int) -> None:
        """Checks that every step of the other side is here once, with its losses."""
        query = "SELECT step, data FROM jobs_event WHERE job_id = ? AND type = 'step'"
        here = self.visitor.rows(f"{query} ORDER BY seq", job_id)
        there = self.far_visitor.rows(
            f"{query} ORDER BY seq", self.far_job(job_id)["id"]
        )
        steps = [row["step"] for row in here]
        assert steps == list(range(1, self.visitor.job(job_id)["total_steps"] + 1))
        losses = [
            [json.loads(row["data"])["loss"] for row in rows] for rows in (here, there)
        ]
        assert losses[0] == losses[1]


def folder_of(process: psutil.Process) -> str | None:
    with suppress(psutil.Error):
        return process.environ().get("FINETUNE_DATA_DIR")
    return None


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("sites")
    with RunningSite(folder / "near") as near, RunningSite(folder / "far") as far:
        pair = Pair(near, far)
        yield pair
        pair.far.stop()


def test_every_step_is_seen_at_once_and_the_snapshot_answers(pair):
    """Also when the answers to the creation of file and job are lost on the way."""
    with running_proxy(pair.far.url) as proxy:
        proxy.lost = ["POST /v1/fine_tuning/jobs", "POST /v1/files"]
        pair.add_engine("lossy", proxy.url)
        job_id = pair.start_job(engine="lossy", name="once")
        late = lateness(pair, job_id)
        assert pair.wait_for_end(job_id) == "succeeded"
        assert proxy.num_lost >= 1
        pair.same_steps(job_id)
        assert len(pair.far_jobs()) == 1
        assert max(late) < LATE_SECONDS
        uid = last_snapshot(pair, job_id)
        assert answer_of(pair, uid).startswith("{")
        assert completion_of(pair, uid)


def lateness(pair: Pair, job_id: int) -> list[float]:
    """Returns the seconds from each step's event to the word of the live page."""
    shown: list[tuple[float, int]] = []
    url = f"{pair.near.url}/jobs/{job_id}/live?after=0"
    with pair.visitor.session.get(url, stream=True, timeout=60) as stream:
        for line in stream.iter_lines():
            if line.startswith(b"data: "):
                update = json.loads(line[6:])
                shown.append((time.time(), update["seq"]))
    steps = pair.visitor.rows(
        "SELECT seq, time FROM jobs_event WHERE job_id = ? AND type = 'step'", job_id
    )
    return [
        next(at for at, seq in shown if seq >= step["seq"]) - time_of(step)
        for step in steps
    ]


def time_of(event: sqlite3.Row) -> float:
    return datetime.fromisoformat(event["time"]).replace(tzinfo=UTC).timestamp()


def last_snapshot(pair: Pair, job_id: int) -> str:
    query = "SELECT uid FROM jobs_snapshot WHERE job_id = ? ORDER BY step DESC"
    return pair.visitor.rows(query, job_id)[0]["uid"]


def answer_of(pair: Pair, uid: str) -> str:
    """Returns what the playground streams."""
    page = pair.visitor.get("/playground/")
    token = page.split('csrfmiddlewaretoken" value="')[1].split('"')[0]
    form = {"model": uid, "prompt": "<joke>", "temperature": 1, "top_p": 1}
    answer = pair.visitor.session.post(
        f"{pair.near.url}/playground/answer/",
        {**form, "max_tokens": 8, "n": 1, "csrfmiddlewaretoken": token},
        headers={"Accept": "application/jsonl"},
        timeout=60,
    )
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert "done" in lines[-1], lines
    return answer.text


def completion_of(pair: Pair, uid: str) -> str:
    key = pair.near.manage("create_api_key", "asker")
    answer = requests.post(
        f"{pair.near.url}/v1/completions",
        json={"model": uid, "prompt": "<joke>", "max_tokens": 8},
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


def test_a_job_goes_on_after_a_wrong_key_and_the_death_of_either_side(pair):
    with pytest.raises(CalledProcessError):
        pair.near.manage("engine", "key", "lab", "--key", "sk-wrong")
    job_id = pair.start_job(**LONG)
    wait_for(lambda: "does not accept the key" in pair.message(job_id), 30, "words")
    assert "lab answers" in pair.near.manage("engine", "key", "lab", "--key", pair.key)
    pair.wait_for_step(job_id, 10)
    pair.near.kill("watcher")
    pair.wait_for_step(job_id, 40)
    pair.kill_far()
    wait_for(lambda: "does not answer" in pair.message(job_id), 30, "words of it")
    assert pair.status(job_id) == "running"
    pair.restart_far()
    assert pair.wait_for_end(job_id) == "succeeded"
    pair.same_steps(job_id)


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    kept.append(listener.accept())

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_engine_that_hangs_delays_no_job_here(pair):
    with silent_server() as url:
        row = pair.visitor.rows("SELECT sealed_key FROM jobs_enginesetting")[0]
        assert pair.key not in row["sealed_key"]
        add_silently(pair, url)
        pair.start_job(engine="silent")
        job_id = pair.start_job(engine="local")
        delays = delays_of(pair, job_id)
    assert pair.status(job_id) == "succeeded"
    assert max(delays) < LATE_SECONDS


def add_silently(pair: Pair, url: str) -> None:
    assert "It cannot be used yet" in pair.add_engine("silent", url)


def delays_of(pair: Pair, job_id: int) -> list[float]:
    """Returns how old the newest events of a local job are when they are first seen."""
    delays, last = [], 0
    while pair.status(job_id) not in FINAL:
        query = (
            "SELECT seq, time FROM jobs_event WHERE job_id = ? AND seq > ? ORDER BY seq"
        )
        found = pair.visitor.rows(query, job_id, last)
        if found:
            last = found[-1]["seq"]
            delays += [time.time() - time_of(row) for row in found]
        time.sleep(0.02)
    return delays
