"""Finds base models and the folders in which they lie."""

from pathlib import Path

from django.conf import settings

from finetune_site.common.errors import UserError
from jobs.base_models import registry
from jobs.base_models.catalogue import BaseModel
from jobs.trainer.contract.settings import LORA


def models_dir() -> Path:
    """Returns the folder in which all base models lie."""
    return Path(settings.DATA_DIR) / "models"


def base_models() -> list[BaseModel]:
    """Returns all models that are known, whether they are ready or not."""
    return registry.base_models(models_dir())


def find_base_model(name: str) -> BaseModel | None:
    """Returns the model of that name, or None if there is none."""
    return registry.base_model(name, models_dir())


def get_base_model(name: str) -> BaseModel:
    """Returns the model of that name. Raises UserError if it was removed."""
    model = find_base_model(name)
    if model is None:
        raise UserError(
            f"The base model {name} is no longer on this machine. Add it again, or "
            "choose another one.",
            field="base_model",
        )
    return model


def base_learning_rate(model: BaseModel, method: str) -> float:
    """Returns the learning rate that a learning-rate scale of 1 means."""
    if method == LORA:
        return model.lora_learning_rate
    return model.full_learning_rate
