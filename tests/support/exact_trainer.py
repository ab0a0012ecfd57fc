"""The trainer with weights in float64: what rounds off stays small in a whole run.

`python -m tests.support.exact_trainer RUN_FOLDER` else does what `jobs.trainer` does.
"""

import os
from functools import partial

import torch

from jobs.trainer import __main__ as program
from jobs.trainer import prepare
from jobs.trainer.compute.model import load_model

load_exact_model = partial(load_model, dtype=torch.float64)

if __name__ == "__main__":
    prepare.load_model = load_exact_model
    os._exit(program.main())
