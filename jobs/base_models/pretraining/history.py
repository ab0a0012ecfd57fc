"""The builds that a model comes from: it may go on from an earlier one, or have had
teachers.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from jobs.base_models.pretraining.errors import BuildError
from jobs.base_models.pretraining.stored import read_json

FILE = "history.json"


@dataclass(frozen=True, kw_only=True)
class Build:
    # Without the folders' paths, which are of one machine.
    command: str
    # The digest of what was learned from.
    texts: str
    # Of the model, which may be a teacher of the last one.
    parameters: int
    teaches: bool = False
    tokens: int
    steps: int
    minutes: float
    # What it was trained on.
    machine: str
    # Mean of the last steps, in nats a token.
    last_loss: float
    # How often the model went through each text, by its name.
    times: dict[str, float]


def read_history(model_folder: Path) -> list[Build]:
    """The first build first; none of a model that somebody else made."""
    path = model_folder / FILE
    if not path.exists():
        return []
    try:
        return [Build(**build) for build in read_json(path)]
    except TypeError:
        raise BuildError(f"{path} is no history of builds.") from None


def history_of_teachers(model_folders: Iterable[Path]) -> list[Build]:
    return [
        replace(build, teaches=True)
        for folder in model_folders
        for build in read_history(folder)
    ]


def write_history(model_folder: Path, builds: Sequence[Build]) -> None:
    text = json.dumps([asdict(build) for build in builds], indent=1)
    (model_folder / FILE).write_text(text + "\n")
