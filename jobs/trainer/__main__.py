"""`python -m jobs.trainer RUN_FOLDER` trains the job of a run folder."""

import logging
import os
import sys
from pathlib import Path

# Below the pages and the model server, above nothing: they are what people wait for.
NICENESS = 5


def main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    os.nice(NICENESS)
    from jobs.trainer.run import run

    return run(Path(sys.argv[1]))


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # All is on disk. Tearing torch down takes time, in which the next job would wait
    # for memory.
    os._exit(code)
