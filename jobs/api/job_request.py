"""The body that asks for a job, and the `NewJob` that it means."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from datasets.models import DatasetVersion
from datasets.selectors import find_file
from finetune_site.common.errors import UserError
from finetune_site.common.spelling import misspelt
from jobs.api.fields import AUTO, RequestObject, StrictObject, Text
from jobs.api.setting_fields import with_settings
from jobs.engines.registry import LOCAL, engine_to_go_on
from jobs.models import Job, Snapshot
from jobs.new_job.creation import NewJob
from jobs.new_job.suggest import next_seed
from jobs.selectors.model_names import find_model
from jobs.trainer.contract.settings import SETTINGS, SUGGESTED, JobSettings

# What clients call our fields.
CLIENT_NAMES = {
    "base_model": "model",
    "parent_snapshot": "model",
    "dataset_version": "training_file",
    "validation_version": "validation_file",
    **{name: one.api_name for name, one in SETTINGS.items()},
}
# The method has a shape of its own in OpenAI's API.
NUMBERS = [one for one in SETTINGS.values() if not one.choices]


@with_settings(one for one in NUMBERS if one.api_place == "hyperparameters")
class Hyperparameters(StrictObject):
    pass


class Supervised(StrictObject):
    hyperparameters: Hyperparameters | None = None


class MethodRequest(StrictObject):
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


@with_settings(NUMBERS)
class JobRequest(RequestObject):
    """OpenAI's fields and our own. Unknown fields are ignored, but for those that are
    misspelt.
    """

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
    prompts: list[Text] | None = Field(
        None, description="Answered while it learns; if left out, the site picks some."
    )

    @classmethod
    def is_wrong(cls, key: str, value: Any) -> bool:
        return bool(misspelt(key, cls.model_fields))

    def setting(self, name: str) -> Any:
        """Returns what the client gave for a setting, by its name in the API.

        It is looked for in `method`, in `hyperparameters`, then in the body itself.
        """
        supervised = self.method.supervised if self.method else None
        places = (
            supervised.hyperparameters if supervised else None,
            self.hyperparameters,
            self,
        )
        found = (getattr(place, name, None) for place in places if place)
        return next((value for value in found if value is not None), None)


def asked_for(body: JobRequest) -> NewJob:
    """Returns the job that a body asks for.

    Raises UserError, which names the field at fault by our name for it.
    """
    model = find_model(body.model)
    parent = model.snapshot
    given = given_settings(body, parent)
    at_parent = engine_to_go_on(parent) if parent else LOCAL.name
    return NewJob(
        name=body.name or body.suffix or "",
        dataset_version=find_file(body.training_file, field="training_file"),
        validation_version=validation_file(body),
        base_model=model.base_model,
        parent_snapshot=parent,
        engine=body.engine or at_parent,
        when_engine_away=body.when_engine_away or Job.WhenEngineAway.WAIT,
        settings=JobSettings(**given),
        auto=tuple(name for name in SUGGESTED if name not in given),
        prompts=body.prompts or (),
        suffix=body.suffix or "",
        metadata=body.metadata or {},
    )


def given_settings(body: JobRequest, parent: Snapshot | None) -> dict[str, Any]:
    """Returns the settings that are not left to the site, by their names in a job."""
    method = body.method.type if body.method else None
    given = {one.name: body.setting(one.api_name) for one in NUMBERS}
    given["method"] = None if method == "supervised" else method
    chosen = {k: v for k, v in given.items() if v not in (None, AUTO)}
    if parent is None:
        return chosen
    # Another order of rows than the parent's, which it knows by heart.
    further = {"method": parent.method, "seed": next_seed(parent.job)}
    return further | chosen


def validation_file(body: JobRequest) -> DatasetVersion | None:
    if not body.validation_file:
        return None
    return find_file(body.validation_file, field="validation_file")


@contextmanager
def client_names() -> Iterator[None]:
    """Lets errors name the field as the client knows it."""
    try:
        yield
    except UserError as error:
        error.field = CLIENT_NAMES.get(error.field or "", error.field)
        raise
