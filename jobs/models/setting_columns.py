"""The columns of a job's row that hold its settings, made from the settings' table."""

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from jobs.trainer.contract.settings import SETTINGS, Setting

CHOICE_CHARACTERS = 10


def add_setting_columns(model: type[models.Model]) -> None:
    """Gives a model a column for every setting, with the setting's name and limits."""
    for one in SETTINGS.values():
        model.add_to_class(one.name, column_of(one))


def column_of(setting: Setting) -> "models.Field[Any, Any]":
    """Returns the column that holds a setting."""
    if setting.choices:
        return models.CharField(
            max_length=CHOICE_CHARACTERS,
            choices=list(setting.choices.items()),
            default=setting.default,
        )
    # Columns of whole numbers take none below 0 anyway.
    at_least = [MinValueValidator(setting.low)] if setting.low else []
    validators = [*at_least, MaxValueValidator(setting.high)]
    if setting.is_whole:
        return models.PositiveIntegerField(
            default=setting.default, validators=validators
        )
    return models.FloatField(default=setting.default, validators=validators)
