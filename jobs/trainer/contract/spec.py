"""[contract] Reads and writes spec.json, which holds everything that a trainer needs.

Small things stand in it by value, files by their path and their SHA-256.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast

from jobs.trainer.contract.runfolder import is_whole, write_json
from jobs.trainer.contract.settings import SETTINGS, JobSettings

Part = TypeVar("Part")

FORMAT = 1
# Whole numbers beside those of `SETTINGS`: the smallest, and what it means.
WHOLE = {
    "completion_tokens": (1, ""),
    "validation_every": (0, "0 means whenever completions are made"),
    "threads": (0, "0 means all cores"),
    "processes": (0, "0 means one a device"),
    "lora.rank": (1, ""),
    "lora.alpha": (1, ""),
}
# Other numbers: whether one is in range, and what that is in words.
NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "base_learning_rate": (lambda x: x > 0, "above 0"),
    "clip": (lambda x: x > 0, "above 0"),
    "checkpoint_seconds": (lambda x: x > 0, "above 0"),
    "warmup": (lambda x: 0 <= x <= 1, "a share, from 0 to 1"),
    "weight_decay": (lambda x: x >= 0, "0 or more"),
    "completion_temperature": (lambda x: x >= 0, "0 or more"),
    "lora.dropout": (lambda x: 0 <= x < 1, "a share, from 0 to below 1"),
}
CHOICES = {
    "schedule": ("cosine", "linear", "constant"),
    "precision": ("auto", "float32", "bfloat16"),
    "sharding": ("auto", "never", "always"),
}


class SpecError(ValueError):
    """Says which setting cannot work, with its name and its limit."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where weights come from: a model folder, and perhaps the folder of an adapter."""

    # The base model's id, for example `tiny`. Snapshots are named after it.
    base_model: str
    path: str
    adapter_path: str | None = None
    # The sha256 of the weights that the adapter was trained on, as `weights_sha256`
    # has it. "" for adapters that were made before it was noted.
    base_sha256: str = ""


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
    """The settings of a new LoRA adapter."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    # If empty, all linear layers except the output layer get an adapter.
    target_modules: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Spec(JobSettings):
    """Everything that one job's trainer needs. Lengths are in tokens, `every` in steps.

    The settings that a person may choose are fields of `JobSettings`; these follow.
    """

    # The job's uid. Snapshot ids and the seeds of completions come from it.
    job: str
    model: ModelSource
    train: DataSource
    validation: DataSource | None = None

    lora: Lora = Lora()
    # The snapshot from which this job trains further; its own snapshots tell it.
    parent_snapshot: str | None = None

    # The base model's default rate, which `learning_rate_scale` multiplies.
    base_learning_rate: float = 1e-3
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    # The share of all steps over which the rate rises to its full height.
    warmup: float = 0.05
    weight_decay: float = 0.01
    # The largest norm of all gradients together. Larger ones are scaled down to it.
    clip: float = 1.0

    prompts: tuple[str, ...] = ()
    completion_tokens: int = 64
    completion_temperature: float = 0.7
    # 0 = whenever completions are made. There is one before the first step, too.
    validation_every: int = 0

    # The precision of products. `auto` means bfloat16 if the machine multiplies in it.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_seconds: float = 30.0
    # The number of cores that the trainer may use; 0 = all.
    threads: int = 0
    # How many processes share a step's rows; 0 = one for each CUDA device, else 1.
    processes: int = 0
    # Whether each process keeps only a part of the weights. `auto` means: if one device
    # is too small.
    sharding: Literal["auto", "never", "always"] = "auto"
    # The speed of an earlier job like this one. Only the plan uses it.
    tokens_per_second: float | None = None

    def __post_init__(self) -> None:
        """Raises SpecError for a setting that cannot work."""
        for one in SETTINGS.values():
            if not one.allows(value := self._value(one.name)):
                raise SpecError(f"{one.name} is {value!r}; it must be {one.limits}")
        for name in WHOLE:
            self._check_whole(name, *WHOLE[name])
        for name, (is_in_range, range_words) in NUMBERS.items():
            value = self._value(name)
            if not (is_number(value) and is_in_range(value)):
                raise SpecError(f"{name} is {value!r}; it must be {range_words}")
        for name, known in CHOICES.items():
            if self._value(name) not in known:
                raise SpecError(
                    f"{name} is {self._value(name)!r}; it must be one of "
                    f"{', '.join(known)}"
                )
        for name in ("prompts", "lora.target_modules"):
            if not all(isinstance(text, str) for text in self._value(name)):
                raise SpecError(f"{name} is {self._value(name)!r}; it must be texts")
        if self.early_stop and not (self.validation and self.snapshots_every):
            raise SpecError(
                "early_stop needs a validation dataset, and snapshots_every above 0"
            )

    def _value(self, name: str) -> Any:
        return attrgetter(name)(self)

    def _check_whole(self, name: str, least: int, note: str) -> None:
        value = self._value(name)
        if is_whole(value) and least <= value:
            return
        note = f" ({note})" if note else ""
        raise SpecError(
            f"{name} is {value!r}; it must be a whole number, {least} or more{note}"
        )

    @property
    def learning_rate(self) -> float:
        """The learning rate at its full height."""
        return self.base_learning_rate * self.learning_rate_scale

    def save(self, path: Path) -> None:
        """Writes the spec as JSON."""
        write_json(path, {"format": FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a spec; raises SpecError for other formats and unknown settings."""
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise SpecError(f"There is no {path}") from None
        except ValueError as error:
            raise SpecError(f"{path} is not JSON: {error}") from None
        if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
            raise SpecError(f"{path} is not a spec of format {FORMAT}")
        return cls(**_nested(value))


def is_number(value: object) -> bool:
    """Returns whether a JSON value is a finite number."""
    is_one = is_whole(value) or isinstance(value, float)
    return is_one and math.isfinite(cast(float, value))


def _nested(value: dict[str, Any]) -> dict[str, Any]:
    value = _settings_of(Spec, value, "")
    value["model"] = _part(ModelSource, value["model"], "model")
    value["train"] = _part(DataSource, value["train"], "train")
    if value.get("validation"):
        value["validation"] = _part(DataSource, value["validation"], "validation")
    lora = _settings_of(Lora, value.get("lora", {}), "lora")
    if "target_modules" in lora:
        lora["target_modules"] = _texts(lora["target_modules"], "lora.target_modules")
    value["lora"] = Lora(**lora)
    value["prompts"] = _texts(value.get("prompts", []), "prompts")
    return value


def _part(kind: type[Part], value: Any, name: str) -> Part:
    settings = _settings_of(kind, value, name)
    for key, text in settings.items():
        if not isinstance(text, str) and text is not None:
            raise SpecError(f"{name}.{key} is {text!r}; it must be a text")
    return kind(**settings)


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise SpecError(f"{name} is {value!r}; it must be a list of texts")
    return tuple(value)


def _settings_of(kind: type, value: Any, name: str) -> dict[str, Any]:
    """Returns a copy of settings; raises SpecError if one is unknown or missing.

    `name` is the name of a group of settings, and empty for those of the spec itself.
    """
    if not isinstance(value, dict):
        raise SpecError(f"{name} is {value!r}; it must be an object with settings")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    within = f" in {name}" if name else ""
    if unknown := sorted(set(value) - set(fields)):
        raise SpecError(f"unknown settings{within}: {', '.join(unknown)}")
    needed = (key for key in fields if fields[key].default is dataclasses.MISSING)
    if missing := sorted(set(needed) - set(value)):
        raise SpecError(f"settings that are missing{within}: {', '.join(missing)}")
    return dict(value)
