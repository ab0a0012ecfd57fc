"""The builds that a model comes from.

A build may go on from an earlier model, and it may have teachers, which were built too.
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
    """One build of a model, as its card tells it."""

    # It has no paths of folders, because those are of one machine.
    command: str
    # The digest of the texts that were learned from.
    texts: str
    # The size of the model that was built, which may be a teacher of the last model.
    parameters: int
    teaches: bool = False
    tokens: int
    steps: int
    minutes: float
    # The machine on which it was trained.
    machine: str
    # The mean loss of the last steps, in nats a token.
    last_loss: float
    # How often the model went through each text, by the text's name.
    times: dict[str, float]


def read_history(model_folder: Path) -> list[Build]:
    """Returns the builds of a model, the first one first.

    A model that somebody else made has none. Raises BuildError for a broken file.
    """
    path = model_folder / FILE
    if not path.exists():
        return []
    try:
        return [Build(**build) for build in read_json(path)]
    except TypeError:
        raise BuildError(f"{path} is no history of builds.") from None


def history_of_teachers(model_folders: Iterable[Path]) -> list[Build]:
    """Returns the builds of all teachers, marked as teaching."""
    return [
        replace(build, teaches=True)
        for folder in model_folders
        for build in read_history(folder)
    ]


def write_history(model_folder: Path, builds: Sequence[Build]) -> None:
    """Writes the builds of a model into its folder."""
    text = json.dumps([asdict(build) for build in builds], indent=1)
    (model_folder / FILE).write_text(text + "\n")
