"""Where the project and the model that ships lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "jobs/base_models/tiny"
SAMPLES = ROOT / "datasets/sample_data"
