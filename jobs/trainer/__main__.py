"""`python -m jobs.trainer RUN_FOLDER` trains the job of a run folder.

`python -m jobs.trainer plan SPEC` prints what a job with that spec.json would do.
"""

import json
import logging
import os
import signal
import sys
from pathlib import Path

from jobs.trainer.contract.spec import Spec, SpecError
from jobs.trainer.rows.plan import make_plan
from jobs.trainer.rows.token_cache import DatasetError
from jobs.trainer.text.encoding import TokenizerError

# Below the pages and the model server, above nothing: they are what people wait for.
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
    try:
        found = make_plan(Spec.load(path))
    except (SpecError, DatasetError, TokenizerError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{json.dumps(found, indent=1)}\n")
    sys.stdout.flush()
    return 0


def train(folder: Path) -> int:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    # Whoever started this process may have made it so already.
    os.nice(max(0, NICENESS - os.nice(0)))
    if os.environ.get("RANK", "0") != "0":
        # Process 0 says when to leave, also while this one still imports.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from jobs.trainer.run import run

    return run(folder)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # All is on disk. Tearing torch down takes time, in which the next job would wait
    # for memory.
    os._exit(code)
