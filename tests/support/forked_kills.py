"""Kills a trainer at given steps.

`python -m tests.support.forked_kills RUN_FOLDER STEP...` forks each trainer from this
process, which has loaded all code already: so a start takes a moment, and 20 of them
fit into a test.
"""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from jobs.trainer.compute.model import load_model
from jobs.trainer.contract.spec import Spec
from jobs.trainer.run import run

DEADLINE_SECONDS = 60.0


def main() -> None:
    folder = Path(sys.argv[1])
    # A process with threads cannot be forked.
    torch.set_num_threads(1)
    load_model(Spec.load(folder / "spec.json").model)
    for step in map(int, sys.argv[2:]):
        trainer = start(folder)
        wait_for(folder, step)
        os.kill(trainer, signal.SIGKILL)
        _, status = os.waitpid(trainer, 0)
        if not os.WIFSIGNALED(status):
            raise SystemExit(f"the trainer had ended before step {step}")
    _, status = os.waitpid(start(folder), 0)
    raise SystemExit(os.waitstatus_to_exitcode(status))


def start(folder: Path) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(run(folder))
    return pid


def wait_for(folder: Path, step: int) -> None:
    """Waits until the trainer has written that step."""
    wanted = f'"type":"step","step":{step},'.encode()
    deadline = time.monotonic() + DEADLINE_SECONDS
    events = folder / "events.jsonl"
    while not events.exists() or wanted not in events.read_bytes():
        if time.monotonic() > deadline:
            raise SystemExit(f"no step {step}")
        time.sleep(0.002)


if __name__ == "__main__":
    main()
