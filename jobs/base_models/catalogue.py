"""[contract] The base models: what training starts from, and where their files lie."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.base_models.model_folder import fault_of
from jobs.trainer.contract.model_folders import model_folder


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    name: str
    title: str
    parameters: int
    licence: str
    # Most tokens in a row.
    context: int
    default_max_tokens: int
    # The rates that learning-rate scale 1 means.
    full_learning_rate: float
    lora_learning_rate: float
    # Where it can be had; empty for the one that ships inside.
    hub_id: str = ""
    download_bytes: int = 0

    def folder(self, models_dir: Path) -> Path:
        return model_folder(self.name, models_dir)

    def is_ready(self, models_dir: Path) -> bool:
        return not fault_of(self.folder(models_dir))


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
    return name in CATALOGUE and not CATALOGUE[name].hub_id


def default_rates(parameters: int) -> tuple[float, float]:
    """Learning rates of a model that is not in the catalogue: full, LoRA.

    Larger models want smaller steps. Between the catalogue's models a rate follows the
    straight line of logarithms, beyond them it is that of the nearest.
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
