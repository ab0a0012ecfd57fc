"""[contract] Finds all base models of a site: the catalogue and the added folders."""

import re
from dataclasses import dataclass
from pathlib import Path

from jobs.base_models.catalogue import CATALOGUE, BaseModel, default_rates
from jobs.base_models.model_folder import FolderFacts, known_facts, printable

# A name is a part of addresses and of snapshot ids, so it has no colon or slash.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
# The form of a new job means something else by these names.
RESERVED = {"snapshot"}
# Models with fewer parameters than this get short rows by default.
SMALL_MODEL_PARAMETERS = 100_000_000


@dataclass(frozen=True)
class BrokenFolder:
    """A folder of a model that cannot be trained from, and why."""

    name: str
    fault: str


def base_models(models_dir: Path) -> list[BaseModel]:
    """Returns the models of the catalogue, ready or not, and all usable added ones."""
    added = [name for name in folder_names(models_dir) if name not in CATALOGUE]
    found = (base_model(name, models_dir) for name in added)
    return [*CATALOGUE.values(), *filter(None, found)]


def base_model(name: str, models_dir: Path) -> BaseModel | None:
    """Returns a model by its name, or None if there is none that can be used."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    if not is_usable_name(name):
        return None
    facts = known_facts(models_dir / name)
    return _described(name, facts) if isinstance(facts, FolderFacts) else None


def broken_folders(models_dir: Path) -> list[BrokenFolder]:
    """Returns all folders that cannot be used, of models of the catalogue too."""
    return [
        BrokenFolder(printable(name), fault)
        for name in folder_names(models_dir)
        if (fault := _fault(name, models_dir))
    ]


def is_usable_name(name: str) -> bool:
    """Returns whether a model may have this name."""
    return bool(NAME.fullmatch(name)) and name.lower() not in RESERVED


def folder_names(models_dir: Path) -> list[str]:
    """Returns the names of the models' folders, sorted.

    Folders that begin with a full stop are left out: they hold unfinished downloads.
    """
    if not models_dir.is_dir():
        return []
    names = (path.name for path in models_dir.iterdir() if path.is_dir())
    return sorted(name for name in names if not name.startswith("."))


def _fault(name: str, models_dir: Path) -> str:
    if not is_usable_name(name):
        return (
            "Its name cannot be used. Rename the folder: letters, digits, full stops, "
            "hyphens and underscores, 80 at most."
        )
    facts = known_facts(models_dir / name)
    return "" if isinstance(facts, FolderFacts) else facts.message


def _described(name: str, facts: FolderFacts) -> BaseModel:
    full, lora = default_rates(facts.parameters)
    small = facts.parameters < SMALL_MODEL_PARAMETERS
    return BaseModel(
        name=name,
        title=f"{facts.architecture}, added by the team",
        parameters=facts.parameters,
        licence=facts.licence,
        context=facts.context,
        default_max_tokens=min(facts.context, 256 if small else 1024),
        full_learning_rate=full,
        lora_learning_rate=lora,
    )
