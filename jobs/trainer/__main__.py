"""`python -m jobs.trainer RUN_FOLDER` trains the job of a run folder.

`python -m jobs.trainer plan SPEC` prints what a job with that spec.json would do.
"""

import json
import logging
import os
import signal
import sys
from pathlib import Path

from jobs.trainer.contract.quick_imports import quick_imports
from jobs.trainer.contract.spec import Spec, SpecError
from jobs.trainer.rows.plan import make_plan
from jobs.trainer.rows.token_cache import DatasetError
from jobs.trainer.text.encoding import TokenizerError

# People wait for the pages and for the model server, so the trainer lets both go first.
NICENESS = 5


def main() -> int:
    match sys.argv[1:]:
        case ["plan", spec]:
            return plan(Path(spec))
        case [folder] if folder != "plan":
            return train(Path(folder))
    sys.stderr.write(f"{__doc__}\n")
    return 2


def plan(path: Path) -> int:
    """Prints the plan of a spec.json as JSON; returns the exit code."""
    try:
        found = make_plan(Spec.load(path))
    except (SpecError, DatasetError, TokenizerError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{json.dumps(found, indent=1)}\n")
    sys.stdout.flush()
    return 0


def train(folder: Path) -> int:
    """Trains the job of a run folder; returns the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    # The process that started this one may have lowered its priority already.
    os.nice(max(0, NICENESS - os.nice(0)))
    if os.environ.get("RANK", "0") != "0":
        # Process 0 decides when to leave, also while this process still imports.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with quick_imports():
        from jobs.trainer.run import run

    return run(folder)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # Everything is on disk. Shutting torch down takes time, and the next job would wait
    # for the memory meanwhile.
    os._exit(code)
