"""[contract] spec.json: all that the trainer needs, by value or by path and sha256."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from jobs.trainer.runfolder import write_json

FORMAT = 1
NEVER_AT_ZERO = (
    "completions_every",
    "snapshots_every",
    "validation_every",
    "early_stop",
)
ABOVE_ZERO = ("base_learning_rate", "clip", "checkpoint_seconds")
CHOICES = {
    "method": ("full", "lora"),
    "schedule": ("cosine", "linear", "constant"),
    "precision": ("auto", "float32", "bfloat16"),
    "sharding": ("auto", "never", "always"),
}


class SpecError(ValueError):
    """A setting that cannot work, with its name and its limit."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where weights come from: a model folder, and an adapter folder laid over it."""

    # The base model's id, for example `tiny`: snapshots are named after it.
    base_model: str
    path: str
    adapter_path: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A dataset version, pinned by its sha256."""

    version: str
    sha256: str
    examples: str
    # The folder of its token cache, made by the worker or else by the trainer.
    tokens: str


@dataclass(frozen=True, kw_only=True)
class Lora:
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    # Empty: all linear layers except the output layer.
    target_modules: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One job's settings. Lengths are in tokens, rates per step, `every` in steps."""

    # The job's uid. Snapshot ids and the seeds of completions come from it.
    job: str
    model: ModelSource
    train: DataSource
    validation: DataSource | None = None

    method: Literal["full", "lora"] = "full"
    lora: Lora = Lora()
    # The snapshot this job trains further from, for its facts.
    parent_snapshot: str | None = None

    epochs: int = 4
    # Rows of `max_tokens` per step.
    batch_size: int = 1
    max_tokens: int = 256
    # The base model's default rate, and the person's multiplier on it.
    base_learning_rate: float = 1e-3
    learning_rate_scale: float = 1.0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    # Share of all steps over which the rate rises to its full height.
    warmup: float = 0.05
    weight_decay: float = 0.01
    # Largest norm of all gradients together.
    clip: float = 1.0
    seed: int = 1

    # 0 = never. Completions and validation are made before the first step too.
    completions_every: int = 10
    num_completions: int = 1
    prompts: tuple[str, ...] = ()
    completion_tokens: int = 64
    completion_temperature: float = 0.7
    snapshots_every: int = 20
    # 0 = whenever completions are made.
    validation_every: int = 0
    # End after so many snapshots in a row without a better validation loss; 0 = never.
    early_stop: int = 0

    # Of products; auto: bfloat16 where the machine multiplies in it.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_seconds: float = 30.0
    # Cores the trainer may use; 0 = all.
    threads: int = 0
    # Processes that share a step's rows; 0 = one a CUDA device, else 1.
    processes: int = 0
    # Whether each keeps a part of the weights only; auto: when one device is too small.
    sharding: Literal["auto", "never", "always"] = "auto"
    # The speed of an earlier job like this one, for the plan alone.
    tokens_per_second: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "max_tokens", "num_completions"):
            if getattr(self, name) < 1:
                raise SpecError(
                    f"{name} is {getattr(self, name)}; it must be 1 or more"
                )
        for name in NEVER_AT_ZERO:
            if getattr(self, name) < 0:
                raise SpecError(f"{name} is {getattr(self, name)}; 0 means never")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise SpecError(
                    f"{name} is {getattr(self, name)!r}; it must be one of "
                    f"{', '.join(known)}"
                )
        for name in ABOVE_ZERO:
            if not getattr(self, name) > 0:
                raise SpecError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.warmup <= 1:
            raise SpecError(f"warmup is {self.warmup}; it is a share, from 0 to 1")
        if self.lora.rank < 1:
            raise SpecError(f"lora.rank is {self.lora.rank}; it must be 1 or more")
        if self.early_stop and not (self.validation and self.snapshots_every):
            raise SpecError(
                "early_stop needs a validation dataset, and snapshots_every above 0"
            )
        if not 0 < self.learning_rate_scale <= 100:
            raise SpecError(
                f"learning_rate_scale is {self.learning_rate_scale}; "
                "it must be above 0 and at most 100"
            )

    @property
    def learning_rate(self) -> float:
        return self.base_learning_rate * self.learning_rate_scale

    def save(self, path: Path) -> None:
        write_json(path, {"format": FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises SpecError for a file of another format or with unknown settings."""
        value = json.loads(path.read_bytes())
        if value.pop("format", None) != FORMAT:
            raise SpecError(f"{path} is not a spec of format {FORMAT}")
        return cls(**_nested(value))


def _nested(value: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in dataclasses.fields(Spec)}
    unknown = sorted(set(value) - known)
    if unknown:
        raise SpecError(f"unknown settings: {', '.join(unknown)}")
    value["model"] = ModelSource(**value["model"])
    value["train"] = DataSource(**value["train"])
    if value.get("validation"):
        value["validation"] = DataSource(**value["validation"])
    if "lora" in value:
        lora = value["lora"]
        value["lora"] = Lora(
            **{**lora, "target_modules": tuple(lora["target_modules"])}
        )
    value["prompts"] = tuple(value.get("prompts", ()))
    return value
