"""The main job as a person meets it: times and losses, on a real site of its own.

make bench-main
"""

import asyncio
import json
import statistics
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from jobs.serving import client
from jobs.trainer.contract.spec import ModelSource
from jobs.trainer.text.examples import iter_examples
from tests.bench.figures import report
from tests.support.running_site import ROOT, RunningSite, wait_for
from tests.support.visitor import Visitor

SAMPLES = ROOT / "datasets" / "sample_data"
FINAL = {"succeeded", "failed", "cancelled"}


class Bench:
    def __init__(self, site: RunningSite) -> None:
        self.site = site
        self.visitor = Visitor(site)

    def dataset(self, name: str) -> int:
        """Uploads a sample file. Returns the version's id once it is ready."""
        dataset = self.visitor.upload(SAMPLES / f"{name}.jsonl", name)
        query = (
            "SELECT id FROM datasets_datasetversion"
            " WHERE dataset_id = ? AND status = 'ready'"
        )
        return int(
            wait_for(lambda: self.visitor.rows(query, dataset), 30, "import")[0]["id"]
        )

    def finish(self, job_id: int) -> Any:
        wait_for(lambda: self.visitor.job(job_id)["status"] in FINAL, 300, "the end")
        job = self.visitor.job(job_id)
        assert job["status"] == "succeeded", job["status_message"]
        return job

    def wait_for_chart(self, job_id: int) -> None:
        """Waits until the figure that the browser asks for has a step in it."""
        url = f"{self.site.url}/jobs/{job_id}/figure.json"

        def drawn() -> bool:
            traces = self.visitor.session.get(url, timeout=10).json()["figure"]["data"]
            return any(t.get("name") == "Train loss" and t["x"] for t in traces)

        wait_for(drawn, 60, "the first step")

    def snapshot_source(self, job: Any) -> ModelSource:
        row = self.visitor.rows(
            "SELECT relative_path FROM jobs_snapshot WHERE job_id = ?"
            " ORDER BY step DESC",
            job["id"],
        )[0]
        folder = self.site.data_dir / "runs" / job["uid"] / row["relative_path"]
        return ModelSource(base_model="tiny", path=str(folder))

    async def ask(
        self, source: ModelSource, prompt: str, max_tokens: int = 24
    ) -> tuple[str, float]:
        """Returns the likeliest answer, and the seconds until its first word."""
        began, first, text = time.perf_counter(), 0.0, ""
        request = {
            "model": {"base_model": source.base_model, "path": source.path},
            "prompt": prompt,
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        socket = client.socket_path(self.site.data_dir)
        async for line in client.stream_completion(socket, request):
            if line.get("text"):
                first = first or time.perf_counter() - began
                text += line["text"]
        return text, first


def jokes(bench: Bench, version_id: int) -> Any:
    began = time.perf_counter()
    job_id = bench.visitor.start_job(dataset_version=version_id, epochs=3)
    bench.wait_for_chart(job_id)
    report("start_to_first_step", time.perf_counter() - began, "s")
    job = bench.finish(job_id)
    report("jokes_whole_job", time.perf_counter() - began, "s")
    losses = [e["learned_loss"] for e in bench.visitor.events(job_id, "step")]
    last_epoch = losses[-len(losses) // 3 :]
    fall = 100 * (1 - statistics.mean(last_epoch) / losses[0])
    report("jokes_learned_loss_fall", fall, "%")
    return job


def capitals(bench: Bench) -> None:
    version_id = bench.dataset("capitals")
    began = time.perf_counter()
    job = bench.finish(bench.visitor.start_job(dataset_version=version_id, epochs=10))
    report("capitals_whole_job", time.perf_counter() - began, "s")
    source = bench.snapshot_source(job)
    examples = list(iter_examples(SAMPLES / "capitals.jsonl"))
    num_exact = asyncio.run(count_exact(bench, source, examples))
    report("capitals_exact", 100 * num_exact / len(examples), "%")


async def count_exact(bench: Bench, source: ModelSource, examples: list[Any]) -> int:
    exact = 0
    for (question, _), (answer, _) in examples:
        exact += (await bench.ask(source, question))[0] == answer
    return exact


def both_at_once(bench: Bench, version_id: int, warm: ModelSource) -> None:
    """Measures a job alone, and the same job while somebody asks without a pause."""
    alone = speed(bench, version_id)
    stopped, first_words = threading.Event(), []

    async def keep_asking() -> None:
        while not stopped.is_set():
            first_words.append((await bench.ask(warm, "<joke>", 64))[1])

    asker = threading.Thread(target=lambda: asyncio.run(keep_asking()))
    asker.start()
    beside = speed(bench, version_id)
    stopped.set()
    asker.join()
    report("first_word_beside_a_job_median", statistics.median(first_words), "s")
    report("first_word_beside_a_job_worst", max(first_words), "s")
    report("job_speed_beside_the_playground", 100 * beside / alone, "%")


def speed(bench: Bench, version_id: int) -> float:
    """Returns the steps a second from the first step to the last."""
    job_id = bench.visitor.start_job(
        dataset_version=version_id, epochs=4, completions_every=0, snapshots_every=0
    )
    bench.finish(job_id)
    rows = bench.visitor.rows(
        "SELECT time FROM jobs_event WHERE job_id = ? AND type = 'step' ORDER BY seq",
        job_id,
    )
    times = [datetime.fromisoformat(row["time"]) for row in rows]
    return (len(times) - 1) / (times[-1] - times[0]).total_seconds()


def live_delay(bench: Bench, version_id: int) -> None:
    """Measures how long the trainer's writes take to the stream, over a whole job."""
    job_id = bench.visitor.start_job(dataset_version=version_id, epochs=2)
    delays = []
    with bench.visitor.session.get(
        f"{bench.site.url}/jobs/{job_id}/live", stream=True, timeout=60
    ) as stream:
        for line in stream.iter_lines():
            if line.startswith(b"id: ") and line != b"id: 0":
                delays.append(time.time() - written_at(bench, job_id, int(line[4:])))
    report("live_update_median", statistics.median(delays[1:-1]), "s")
    report("live_update_worst", max(delays[1:-1]), "s")


def written_at(bench: Bench, job_id: int, seq: int) -> float:
    uid = bench.visitor.job(job_id)["uid"]
    lines = (bench.site.data_dir / "runs" / uid / "events.jsonl").read_bytes()
    return float(json.loads(lines.splitlines()[seq - 1])["time"])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with RunningSite(Path(folder) / "data") as site:
            report("empty_folder_to_healthy", time.perf_counter() - began, "s")
            bench = Bench(site)
            version_id = bench.dataset("jokes")
            job = jokes(bench, version_id)
            live_delay(bench, version_id)
            both_at_once(bench, version_id, bench.snapshot_source(job))
            capitals(bench)


if __name__ == "__main__":
    main()
