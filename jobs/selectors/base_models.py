"""Which base models there are, and where they lie."""

from pathlib import Path

from django.conf import settings

from finetune_site.common.errors import UserError
from jobs.base_models import registry
from jobs.base_models.catalogue import BaseModel
from jobs.trainer.contract.settings import LORA


def models_dir() -> Path:
    return Path(settings.DATA_DIR) / "models"


def base_models() -> list[BaseModel]:
    """All that are known, whether ready or not."""
    return registry.base_models(models_dir())


def find_base_model(name: str) -> BaseModel | None:
    return registry.base_model(name, models_dir())


def get_base_model(name: str) -> BaseModel:
    """UserError: it was removed."""
    model = find_base_model(name)
    if model is None:
        raise UserError(
            f"The base model {name} is no longer on this machine. Add it again, or "
            "choose another one.",
            field="base_model",
        )
    return model


def base_learning_rate(model: BaseModel, method: str) -> float:
    """What learning-rate scale 1 means."""
    if method == LORA:
        return model.lora_learning_rate
    return model.full_learning_rate
