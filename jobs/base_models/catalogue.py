"""[contract] The catalogue of base models, from which training starts."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.base_models.model_folder import fault_of
from jobs.base_models.trials import is_tried
from jobs.trainer.contract.model_folders import model_folder


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """What the site knows of a base model."""

    name: str
    title: str
    parameters: int
    licence: str
    # The largest number of tokens in a row.
    context: int
    default_max_tokens: int
    # The learning rates for learning-rate scale 1.
    full_learning_rate: float
    lora_learning_rate: float
    # Its id at Hugging Face's hub; empty for the model that ships inside.
    hub_id: str = ""
    download_bytes: int = 0

    def folder(self, models_dir: Path) -> Path:
        """Returns the folder of its files, whether it exists or not."""
        return model_folder(self.name, models_dir)

    def is_ready(self, models_dir: Path) -> bool:
        """Returns whether its files are here, and were found to train and answer."""
        folder = self.folder(models_dir)
        return is_tried(folder) and not fault_of(folder)

    def is_on_trial(self, models_dir: Path) -> bool:
        """Returns whether its files are here and are still to be tried."""
        folder = self.folder(models_dir)
        return not is_tried(folder) and not fault_of(folder)

    def why_not_ready(self, models_dir: Path) -> str:
        """Returns what a sentence says of a model that is not ready, and what helps."""
        if self.is_on_trial(models_dir):
            return "is being tried, which takes some seconds. Ask again then."
        if self.folder(models_dir).is_dir():
            return "cannot be used as it lies here. The page Models says why."
        return (
            "is not on this machine yet. An admin can download it on the page Models."
        )


def _qwen3(
    name: str, title: str, parameters: int, hub_id: str, gigabytes: float, rate: float
) -> BaseModel:
    return BaseModel(
        name=name,
        title=title,
        parameters=parameters,
        licence="Apache-2.0",
        context=32768,
        default_max_tokens=1024,
        full_learning_rate=rate,
        lora_learning_rate=rate * 10,
        hub_id=hub_id,
        download_bytes=int(gigabytes * 1e9),
    )


CATALOGUE = {
    model.name: model
    for model in (
        BaseModel(
            name="tiny",
            title="Small enough for any laptop, ships inside",
            parameters=6_400_000,
            licence="open data: CDLA-Sharing-1.0, CC BY 4.0, MIT, public domain",
            context=2048,
            default_max_tokens=256,
            full_learning_rate=5e-4,
            lora_learning_rate=2e-3,
        ),
        _qwen3(
            "ada", "Qwen3 0.6B Base", 596_000_000, "Qwen/Qwen3-0.6B-Base", 1.2, 2e-5
        ),
        _qwen3(
            "babbage",
            "Qwen3 1.7B Base",
            1_720_000_000,
            "Qwen/Qwen3-1.7B-Base",
            3.4,
            2e-5,
        ),
        _qwen3(
            "curie", "Qwen3 4B Base", 4_020_000_000, "Qwen/Qwen3-4B-Base", 8.1, 1e-5
        ),
        _qwen3(
            "davinci", "Qwen3 8B Base", 8_190_000_000, "Qwen/Qwen3-8B-Base", 16.4, 1e-5
        ),
    )
}


def ships_inside(name: str) -> bool:
    """Returns whether a model ships with the site."""
    return name in CATALOGUE and not CATALOGUE[name].hub_id


def default_rates(parameters: int) -> tuple[float, float]:
    """Returns the learning rates of a model outside the catalogue: full, and LoRA.

    Larger models need smaller rates. Between two models of the catalogue the logarithm
    of the rate follows a straight line over the logarithm of the parameters. Outside of
    them the rate is that of the nearest model.
    """
    known = sorted(CATALOGUE.values(), key=lambda model: model.parameters)
    sizes = [math.log(model.parameters) for model in known]
    rates = [
        [math.log(model.full_learning_rate) for model in known],
        [math.log(model.lora_learning_rate) for model in known],
    ]
    full, lora = (
        math.exp(np.interp(math.log(max(1, parameters)), sizes, y)) for y in rates
    )
    return float(f"{full:.1g}"), float(f"{lora:.1g}")
