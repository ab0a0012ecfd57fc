"""[contract] Where the folder of a base model lies."""

from pathlib import Path

# Models that ship with the site lie here, by name.
SHIPPED = Path(__file__).resolve().parents[2] / "base_models"


def model_folder(name: str, models_dir: Path) -> Path:
    """Returns the folder of a base model, whether it exists or not.

    A model of that name in the data folder comes before one that ships.
    """
    added, shipped = models_dir / name, SHIPPED / name
    return shipped if shipped.is_dir() and not added.is_dir() else added
