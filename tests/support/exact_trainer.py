"""The trainer with weights in float64: what rounds off stays small in a whole run.

`python -m tests.support.exact_trainer RUN_FOLDER` else does what `jobs.trainer` does,
but that it waits behind the step whose number the file `hold` in the run folder names,
as long as there is that file: so what is done to it then is done at that step.
"""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from jobs.trainer import __main__ as program
from jobs.trainer import prepare
from jobs.trainer.compute.model import load_model
from jobs.trainer.contract.events import EventWriter

load_exact_model = partial(load_model, dtype=torch.float64)


class HeldWriter(EventWriter):
    """Waits behind the step that is to be held."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.hold = path.with_name("hold")

    def write(self, type_: str, **data: Any) -> bool:
        is_new = super().write(type_, **data)
        while self.is_held():
            time.sleep(0.005)
        return is_new

    def is_held(self) -> bool:
        """Returns whether the step to wait behind is done, and the file still there."""
        try:
            return self.last_step >= int(self.hold.read_text())
        except FileNotFoundError:
            return False


if __name__ == "__main__":
    from jobs.trainer import run

    prepare.load_model = load_exact_model
    run.EventWriter = HeldWriter
    os._exit(program.main())
