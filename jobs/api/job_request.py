"""The body that asks for a job, and what it means to `create_job`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from datasets.models import DatasetVersion
from datasets.selectors import find_file
from finetune_site.common.errors import UserError
from jobs.api.fields import AUTO, Between, RequestObject, Text
from jobs.engines.registry import engine_to_go_on
from jobs.models import Job, Snapshot
from jobs.new_job.suggest import CHOSEN
from jobs.selectors.model_names import find_model

Number = int | float | Literal["auto"] | None
Epochs = Annotated[Number, Between(1, 1000, auto=True)]
BatchSize = Annotated[Number, Between(1, 4096, auto=True)]
LearningRate = Annotated[Number, Between(0.001, 100, whole=False, auto=True)]
Steps = Annotated[int | None, Between(0, 1_000_000)]

# What clients call our fields.
CLIENT_NAMES = {
    "base_model": "model",
    "parent_snapshot": "model",
    "dataset_version": "training_file",
    "validation_version": "validation_file",
    "epochs": "n_epochs",
    "learning_rate_scale": "learning_rate_multiplier",
}
OWN_SETTINGS = (
    "max_tokens",
    "seed",
    "completions_every",
    "num_completions",
    "snapshots_every",
)


class Hyperparameters(RequestObject):
    n_epochs: Epochs = None
    batch_size: BatchSize = Field(None, description="Rows of max_tokens a step.")
    learning_rate_multiplier: LearningRate = None


class Supervised(RequestObject):
    hyperparameters: Hyperparameters | None = None


class MethodRequest(RequestObject):
    type: Literal["supervised", "full", "lora"]
    supervised: Supervised | None = None


def read_method(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else value
    if kind in ("dpo", "reinforcement"):
        raise UserError(
            f"This server trains on examples of good answers, not by {kind}. Use "
            'method "supervised", or leave it out.',
            field="method",
        )
    if isinstance(value, str):
        value = {"type": value}
    if value is not None and kind not in ("supervised", "full", "lora"):
        raise UserError(
            'The method is "full" (the whole model), "lora", or an object with type '
            '"supervised".',
            field="method",
        )
    return value


class JobRequest(Hyperparameters):
    """Of OpenAI's fields, and our own. What it does not know it ignores."""

    model: Text = Field(
        description="A base model, a snapshot, a fine-tuned model, or NAME:latest."
    )
    training_file: Text = Field(
        description="It may still be on its way: the job waits."
    )
    validation_file: Text | None = None
    suffix: Text | None = Field(
        None, description="Part of the name of the model that is made."
    )
    seed: Annotated[int | None, Between(0, 2**31 - 1)] = None
    metadata: dict[Text, Text] | None = None
    hyperparameters: Hyperparameters | None = None
    method: Annotated[
        MethodRequest | None,
        BeforeValidator(read_method, json_schema_input_type=MethodRequest | str | None),
    ] = Field(None, description='"full" (the whole model), "lora", or as at OpenAI.')

    name: Text | None = Field(None, description="What the job is called on the site.")
    engine: Text | None = Field(None, description="Where it runs; local if left out.")
    when_engine_away: Literal["wait", "fail"] | None = Field(
        None, description="What the job does while its engine does not answer."
    )
    max_tokens: Annotated[Number, Between(8, 131_072, auto=True)] = Field(
        None, description="Tokens a row. Longer examples are cut into pieces."
    )
    prompts: list[Text] | None = Field(
        None, description="Answered while it learns; if left out, the site picks some."
    )
    completions_every: Steps = Field(
        None,
        description="Steps from one answer to the prompts to the next; 0 is never.",
    )
    num_completions: Annotated[int | None, Between(1, 16)] = Field(
        None, description="Answers to each prompt."
    )
    snapshots_every: Steps = Field(
        None, description="Steps from one snapshot to the next; 0 is at the end only."
    )
    early_stop: Annotated[int | None, Between(0, 100)] = Field(
        None,
        description=(
            "End after so many snapshots without a better validation loss; 0 is never."
        ),
    )

    def hyperparameter(self, name: str) -> Any:
        """From the first place that has it: `method`, `hyperparameters`, the body."""
        supervised = self.method.supervised if self.method else None
        places = (
            supervised.hyperparameters if supervised else None,
            self.hyperparameters,
            self,
        )
        found = (getattr(place, name) for place in places if place)
        return next((value for value in found if value is not None), None)


def job_arguments(body: JobRequest) -> dict[str, Any]:
    """UserError names the field at fault, by our name for it."""
    model = find_model(body.model)
    parent = model.snapshot
    settings = given_settings(body, parent)
    arguments = {
        "dataset_version": find_file(body.training_file, field="training_file"),
        "validation_version": validation_file(body),
        "base_model": model.base_model,
        "parent_snapshot": parent,
        "engine": body.engine or (parent and engine_to_go_on(parent)),
        "prompts": body.prompts or [],
        "suffix": body.suffix or "",
        "metadata": body.metadata or {},
        "when_engine_away": body.when_engine_away,
        "early_stop": body.early_stop,
        "auto": [name for name in CHOSEN if name not in settings],
        **settings,
    }
    given = {
        name: value for name, value in arguments.items() if value not in (None, "")
    }
    return {"name": body.name or body.suffix or "", **given}


def given_settings(body: JobRequest, parent: Snapshot | None) -> dict[str, Any]:
    """Fields of Job that are not left to the site."""
    method = body.method.type if body.method else None
    given: dict[str, Any] = {
        "epochs": body.hyperparameter("n_epochs"),
        "batch_size": body.hyperparameter("batch_size"),
        "learning_rate_scale": body.hyperparameter("learning_rate_multiplier"),
        "method": None if method == "supervised" else method,
        **{name: getattr(body, name) for name in OWN_SETTINGS},
    }
    chosen = {k: v for k, v in given.items() if v not in (None, AUTO)}
    if parent:
        # Another order of rows than the parent's, which it knows by heart.
        further = {"method": parent.method, "seed": next_seed(parent.job)}
        chosen = further | chosen
    return chosen


def next_seed(job: Job) -> int:
    return (job.seed + 1) % 2**31


def validation_file(body: JobRequest) -> DatasetVersion | None:
    if not body.validation_file:
        return None
    return find_file(body.validation_file, field="validation_file")


@contextmanager
def client_names() -> Iterator[None]:
    """Errors name the field as the client knows it."""
    try:
        yield
    except UserError as error:
        error.field = CLIENT_NAMES.get(error.field or "", error.field)
        raise
