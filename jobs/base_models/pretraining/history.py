"""The builds that a model comes from: a later one may go on from an earlier's model."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "history.json"


@dataclass(frozen=True, kw_only=True)
class Build:
    # Without the folders' paths, which are of one machine.
    command: str
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
    return [Build(**build) for build in json.loads(path.read_bytes())]


def write_history(model_folder: Path, builds: Sequence[Build]) -> None:
    text = json.dumps([asdict(build) for build in builds], indent=1)
    (model_folder / FILE).write_text(text + "\n")
