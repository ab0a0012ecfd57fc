"""Tells by their names which datasets are validation data, and of which dataset.

A team says so with a name such as `Jokes, validation`; nothing else records it.
"""

from django.db.models import Q, QuerySet

from datasets.models import DatasetVersion

WORD = "validation"
# What may stand between the name of the training dataset and WORD.
JOINTS = (", ", " ", "-")


def first_for_training(versions: QuerySet[DatasetVersion]) -> DatasetVersion | None:
    """Returns the first version whose dataset is not named as validation data.

    Returns the first version of all if every dataset is named so.
    """
    training = versions.exclude(dataset__name__iendswith=WORD)
    return training.first() or versions.first()


def validation_of(
    version: DatasetVersion, versions: QuerySet[DatasetVersion]
) -> DatasetVersion | None:
    """Returns the first of `versions` that is validation data of this one's dataset."""
    by_name = Q()
    for joint in JOINTS:
        by_name |= Q(dataset__name__iexact=f"{version.dataset.name}{joint}{WORD}")
    return versions.filter(by_name).first()
