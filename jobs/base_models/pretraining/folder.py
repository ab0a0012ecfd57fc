"""[torch] The folder of a build: its plan, its log, its checkpoints and its model."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from jobs.base_models.pretraining.errors import BuildError
from jobs.base_models.pretraining.history import (
    Build,
    read_history,
    write_history,
)
from jobs.base_models.pretraining.stored import read_json
from jobs.trainer.checkpoint import latest_checkpoint
from jobs.trainer.contract.runfolder import Numerics, RunFolder, write_json


@dataclass(frozen=True)
class Plan:
    """What a build is started with. A build that goes on must keep it.

    `asked` holds the options, and `tokens` is how many tokens are learned from.
    """

    asked: dict[str, Any]
    # The digest of the texts that are learned from.
    texts: str
    # The digest of the teachers' weights and of the weights it starts from.
    models: str
    tokens: int


class BuildFolder:
    """Reads and writes the files of one build."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # A build has the same lock, numerics and checkpoints as a job.
        self.run = RunFolder(path)
        self.plan = path / "plan.json"
        self.tokenizer = path / "tokenizer.json"
        self.log = path / "log.jsonl"
        self.model = path / "model"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Holds the folder's lock; raises BuildError if it is not free for a build.

        It is not free if another process builds in it, or if it holds other files.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        ours = {self.run.lock.name, self.tokenizer.name}
        others = {path.name for path in self.path.iterdir()} - ours
        # A killed process may have left the draft of a plan.
        others = {name for name in others if not name.startswith(f".{self.plan.name}.")}
        if others and not self.plan.exists():
            raise BuildError(
                f"{self.path} holds other files ({min(others)}). Give a folder that is "
                "new or empty."
            )
        lock = self.run.take_lock()
        if lock is None:
            raise BuildError(f"Another process builds in {self.path}. Wait for it.")
        try:
            yield
        finally:
            os.close(lock)

    @property
    def is_begun(self) -> bool:
        """Whether the build has a checkpoint or a model.

        Before the first checkpoint nothing is lost, and the options may still change.
        """
        return self.model.exists() or latest_checkpoint(self.run.checkpoint) is not None

    def history(self) -> list[Build]:
        """Returns the builds before this one."""
        return read_history(self.path)

    def begin(self, plan: Plan, numerics: Numerics, history: Sequence[Build]) -> None:
        """Writes the files of a new build over those of a start without checkpoint."""
        # The plan comes first: by its plan a folder is known as a build's; see
        # `claimed`.
        write_json(self.plan, asdict(plan))
        write_history(self.path, history)
        self.log.write_text("")
        self.run.write_numerics(numerics)

    def agreed(
        self, asked: dict[str, Any], texts: str, models: str
    ) -> tuple[Plan, Numerics]:
        """Returns the plan and the numerics with which the build was begun.

        Raises BuildError if now other settings, texts or models are asked for.
        """
        plan = Plan(**read_json(self.plan))
        others = [name for name in asked if plan.asked.get(name) != asked[name]]
        if others:
            told = ", ".join(f"{name} {plan.asked.get(name)}" for name in others)
            raise BuildError(
                f"{self.path} holds a build with other settings: {told}. Give the same "
                "ones to go on with it, or another folder."
            )
        if plan.texts != texts:
            raise BuildError(
                f"{self.path} holds a build from other texts. Give the same ones to go "
                "on with it, or another folder."
            )
        if plan.models != models:
            raise BuildError(
                f"{self.path} holds a build with other teachers, or from another "
                "model. Give the same ones to go on with it, or another folder."
            )
        numerics = self.run.read_numerics()
        if numerics is None:
            raise BuildError(f"{self.run.numerics} is gone. Give another folder.")
        return plan, numerics

    def save_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Writes the tokenizer of the build."""
        tokenizer.save(str(self.tokenizer))

    def cut_log(self, step: int) -> None:
        """Cuts the log after a step: later steps are done and logged again."""
        lines = self.log.read_text().splitlines(keepends=True)
        draft = self.log.with_name(f".{self.log.name}")
        draft.write_text("".join(lines[:step]))
        draft.replace(self.log)

    def tell(self, line: dict[str, float]) -> None:
        """Appends the line of a step to the log."""
        with self.log.open("a") as log:
            log.write(json.dumps(line) + "\n")

    def told(self) -> list[dict[str, float]]:
        """Returns the lines of all steps in the log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]
