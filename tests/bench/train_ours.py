"""Our trainer on a run folder, a block of steps for each line on stdin.

The answers are those of `train_trl.py`.
"""

import json
import resource
import sys
import time
from pathlib import Path
from threading import Event

import torch

from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import RunFolder
from jobs.trainer.processes.ranks import Ranks
from jobs.trainer.run import Trainer


def peak_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    folder = RunFolder(Path(sys.argv[1]))
    num_steps = int(sys.argv[2])
    trainer = Trainer(folder, EventWriter(folder.events), Ranks(), Event())
    step = 0
    while sys.stdin.readline():
        began = time.perf_counter()
        num_tokens = 0
        for _ in range(num_steps):
            step += 1
            trainer._step(step)
            num_tokens += trainer.feed.num_tokens(step)
        seconds = time.perf_counter() - began
        answer = {"tokens": num_tokens, "seconds": seconds, "bytes": peak_bytes()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
