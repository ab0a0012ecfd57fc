"""The data path at 1 GB: counting, packing, memory, and the wait for the first step.

make bench-data
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import psutil

from jobs.engines.processes import ENVIRONMENT
from jobs.trainer.contract.events import read_events
from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.contract.runfolder import RunFolder
from jobs.trainer.contract.spec import DataSource, ModelSource, Spec
from jobs.trainer.rows.packing import pack, row_order
from jobs.trainer.rows.token_cache import TokenCache, build_token_cache
from jobs.trainer.text.bulk_encoding import BulkEncoder
from jobs.trainer.text.encoding import encode_example, load_encoder
from jobs.trainer.text.examples import dump_line, iter_examples
from tests.bench.figures import report
from tests.support.running_site import ROOT, wait_for

TINY = SHIPPED / "tiny"
JOKES = ROOT / "datasets" / "sample_data" / "jokes.jsonl"
NUM_BYTES = 10**9
MEGABYTE = 10**6
MAX_TOKENS = 256
# Encoded both ways: enough for a ratio.
NUM_COMPARED = 40_000
AT_ONCE = 2_000
NUM_STARTS = 3
NUM_STEPS = 100


def write_examples(path: Path) -> None:
    """Writes the sample's jokes again and again, each time told once more."""
    jokes = list(iter_examples(JOKES))
    time_told = 0
    with path.open("wb") as file:
        while file.tell() < NUM_BYTES:
            time_told += 1
            for *before, (text, weight) in jokes:
                told = f"{text} (Told {time_told} times.)"
                file.write(dump_line([*before, (told, weight)]))


def count(examples: Path, tokens: Path) -> None:
    began = time.perf_counter()
    build_token_cache(examples, TINY, tokens)
    seconds = time.perf_counter() - began
    report("count_mb_per_second", NUM_BYTES / MEGABYTE / seconds, "MB/s")


def compare_encoders(examples: Path) -> None:
    """Compares our counting, which looks up what recurs, with a peer that encodes all
    of it on all cores.
    """
    text_encoder = load_encoder(TINY)
    some = list(islice(iter_examples(examples), NUM_COMPARED))
    batches = [some[i : i + AT_ONCE] for i in range(0, len(some), AT_ONCE)]
    encoder = BulkEncoder(text_encoder)
    began = time.perf_counter()
    for batch in batches:
        encoder.encode(batch)
    middle = time.perf_counter()
    for batch in batches:
        for example in batch:
            encode_example(text_encoder, example)
    end = time.perf_counter()
    report("count_over_plain_encoding", (end - middle) / (middle - began), "times")


def use_data(tokens: Path) -> None:
    """Packs and reads as a trainer does, in its own process, and prints the cost."""
    from jobs.trainer.compute.batches import micro_batches

    with peak_memory() as peak:
        cache = TokenCache(tokens)
        began = time.perf_counter()
        packing = pack(cache.lengths, MAX_TOKENS, seed=1)
        seconds = time.perf_counter() - began
        for step in range(NUM_STEPS):
            order = row_order(packing.num_rows, 1, epoch=0)
            micro_batches(cache, packing, order[step : step + 1].tolist(), 1)
    print(json.dumps({"pack_seconds": seconds, **peak}))


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Measures the most that was added, in MB: own memory and pages of mapped files."""
    done = threading.Event()
    before = own, mapped = memory()
    peak: dict[str, float] = {}

    def watch() -> None:
        nonlocal own, mapped
        while not done.wait(0.005):
            now = memory()
            own, mapped = max(own, now[0]), max(mapped, now[1])

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield peak
    done.set()
    watcher.join()
    peak["own"] = (own - before[0]) / MEGABYTE
    peak["mapped"] = (mapped - before[1]) / MEGABYTE


def memory() -> tuple[int, int]:
    info = psutil.Process().memory_info()
    mapped = getattr(info, "shared", 0)
    return info.rss - mapped, mapped


def measure_use(tokens: Path) -> None:
    argv = [sys.executable, "-m", "tests.bench.data_path", str(tokens)]
    env = os.environ | ENVIRONMENT
    found = json.loads(subprocess.check_output(argv, cwd=ROOT, env=env))
    report("pack_seconds", found["pack_seconds"], "s")
    report("data_path_memory_mb", found["own"], "MB")
    report("data_path_mapped_mb", found["mapped"], "MB")


def seconds_to_first_step(examples: Path, tokens: Path, folder: Path) -> float:
    """Returns the seconds from the start of a trainer to its first step."""
    run = RunFolder(folder)
    run.path.mkdir()
    spec = Spec(
        job="ftjob-bench",
        model=ModelSource(base_model="tiny", path=str(TINY)),
        train=DataSource(
            version="bench", sha256="", examples=str(examples), tokens=str(tokens)
        ),
        max_tokens=MAX_TOKENS,
        completions_every=0,
    )
    spec.save(run.spec)
    argv = [sys.executable, "-m", "jobs.trainer", str(run.path)]
    began = time.time()
    with subprocess.Popen(argv, cwd=ROOT, env=os.environ | ENVIRONMENT) as trainer:
        try:
            return wait_for(lambda: first_step(run), 120, "the first step") - began
        finally:
            trainer.terminate()


def first_step(run: RunFolder) -> float | None:
    """Returns when the first step was written, or None before that."""
    if not run.events.exists():
        return None
    events, _ = read_events(run.events, 0)
    return next((e["time"] for e in events if e["type"] == "step"), None)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        examples, tokens = folder / "examples.jsonl", folder / "tokens"
        write_examples(examples)
        compare_encoders(examples)
        count(examples, tokens)
        measure_use(tokens)
        seconds = [
            seconds_to_first_step(examples, tokens, folder / f"run-{number}")
            for number in range(NUM_STARTS)
        ]
        report("first_step_seconds_1gb", statistics.median(seconds), "s")


if __name__ == "__main__":
    if sys.argv[1:]:
        use_data(Path(sys.argv[1]))
    else:
        main()
