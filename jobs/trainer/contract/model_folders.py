"""[contract] Finds the folder of a base model."""

from pathlib import Path

# The models that ship with the site are in this folder, by name.
SHIPPED = Path(__file__).resolve().parents[2] / "base_models"


def model_folder(name: str, models_dir: Path) -> Path:
    """Returns the folder of a base model, whether it exists or not.

    A model of that name in `models_dir` is preferred to one that ships.
    """
    added, shipped = models_dir / name, SHIPPED / name
    return shipped if shipped.is_dir() and not added.is_dir() else added
