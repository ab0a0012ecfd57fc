"""[torch] Loads models from folders: only safetensors, no code of the model's own, and
never with weights missing.
"""

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# These must be set before the import, so that nothing here uses the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from jobs.trainer.compute.out_of_memory import is_out_of_memory
from jobs.trainer.contract.spec import Lora, ModelSource
from jobs.trainer.contract.weights_file import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    MADE_BY_CODE,
    PICKLE_ENDINGS,
    weights_sha256,
)

transformers_logging.disable_progress_bar()

# A reason that names every weight is cut to this length.
MAX_REASON_CHARACTERS = 200

logger = logging.getLogger(__name__)


class ModelError(ValueError):
    """Says why a model folder cannot be used. The message is for people."""


def load_model(
    source: ModelSource,
    *,
    dtype: torch.dtype = torch.float32,
    trainable_adapter: bool = False,
) -> nn.Module:
    """Loads the model of a folder, with its adapter if the source names one.

    Raises ModelError for weights in another format than safetensors and for weights
    that do not match the architecture, which transformers would fill with noise.
    """
    folder = Path(source.path)
    _check_files(folder)
    if (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            f"{folder.name} holds an adapter too ({ADAPTER_CONFIG}), which would be "
            "laid over the model; remove the adapter's files"
        )
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=dtype,
            output_loading_info=True,
        )
    except Exception as error:  # whatever the library makes of the files
        if is_out_of_memory(error):
            raise
        logger.info("The model cannot be read", exc_info=True)
        # The library's words are about an option that people cannot set.
        if "ignore_mismatched_sizes" in str(error):
            raise ModelError(
                f"Weights in {folder.name} have other sizes than its config.json "
                "tells. Copy the files of one model"
            ) from None
        raise ModelError(
            f"The model in {folder.name} cannot be read: {error}"
        ) from None
    _check_report(folder, report)
    if source.adapter_path is None:
        return model
    return with_adapter(model, source, trainable_adapter)


def add_lora(model: nn.Module, lora: Lora) -> nn.Module:
    """Freezes the model and adds a new LoRA adapter, which changes nothing at first.

    Raises ModelError if the settings do not fit the model.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules) or _usual_targets(model),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        why = str(error).rstrip(". ")
        raise ModelError(
            f"LoRA does not fit this model as it is set: {why}. Train all weights, or "
            "name other target modules"
        ) from None


def kept_adapter_words(model: Any, lora: Lora) -> str:
    """Returns the message that a job keeps its snapshot's adapter, or nothing.

    It is told when the job asks for another rank or alpha than the adapter has.
    """
    config = model.peft_config["default"]
    kept, asked = (config.r, config.lora_alpha), (lora.rank, lora.alpha)
    if kept == asked:
        return ""
    return (
        f"Goes on with its snapshot's adapter of rank {kept[0]} and alpha {kept[1]}; "
        f"rank {asked[0]} and alpha {asked[1]} would need a new one"
    )


def _usual_targets(model: nn.Module) -> str | list[str]:
    """Returns which layers get an adapter: all linear ones except the output layer.

    State-space layers use the weights of their `out_proj` without calling that layer,
    so an adapter would change nothing there, and PEFT refuses it.
    """
    if not getattr(model, "_is_stateful", False):
        return "all-linear"
    linear = (name for name, part in model.named_modules() if type(part) is nn.Linear)
    return sorted(
        {name.rsplit(".", 1)[-1] for name in linear} - {"out_proj", "lm_head"}
    )


def merge_adapter(model: Any) -> nn.Module:
    """Adds the adapter into the weights; returns the model with all weights trained.

    A full fine-tune of a snapshot with an adapter starts from it.
    """
    merged: nn.Module = model.merge_and_unload()
    for parameter in merged.parameters():
        parameter.requires_grad_(True)
    return merged


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the weights that training changes, by name; tied weights appear once."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


@torch.no_grad()
def any_broken(weights: Iterable[torch.Tensor]) -> bool:
    """Returns whether any weight is infinite or not a number.

    It looks at each number once and copies none, so it costs little beside reading or
    writing the weights.
    """
    ends = [
        torch.stack(torch.aminmax(part)).float()
        for part in weights
        if part.is_floating_point() and part.numel()
    ]
    return bool(ends) and not torch.stack(ends).isfinite().all().item()


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """Returns the layers of a model.

    They are found by the names of those modules that, as the model's own code says,
    must stay on one device.
    """
    names = set(getattr(model, "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def is_adapted(model: nn.Module) -> bool:
    """Returns whether the model has an adapter."""
    return hasattr(model, "peft_config")


def with_adapter(model: nn.Module, source: ModelSource, trainable: bool) -> nn.Module:
    """Returns the model with the adapter that the source names.

    Raises ModelError if the adapter cannot be read, does not fit the model, or was
    trained on other weights than those that lie in the model's folder now.
    """
    from peft import PeftModel

    folder = Path(source.adapter_path or "")
    _check_files(folder)
    if source.base_sha256 not in {"", weights_sha256(Path(source.path))}:
        raise ModelError(
            f"The files of {source.base_model} were replaced since this snapshot was "
            "trained on them, and its adapter means nothing on others. Put the former "
            "files back, or train on the new ones"
        )
    # Without this file PEFT would look for a pickle instead.
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{folder.name} holds no {ADAPTER_WEIGHTS}")
    try:
        adapted = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    except Exception as error:  # as above
        if is_out_of_memory(error):
            raise
        logger.info("The adapter cannot be read", exc_info=True)
        why = " ".join(str(error).split())[:MAX_REASON_CHARACTERS]
        raise ModelError(
            f"The adapter in {folder.name} does not fit this model. It was made for "
            f"another base model, or its files are broken ({why}…)"
        ) from None
    _check_adapter(adapted, folder)
    return adapted


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(f"There is no model folder {folder.name}")
    for path in folder.iterdir():
        if path.suffix in PICKLE_ENDINGS:
            raise ModelError(
                f"{folder.name} holds {path.name}. Only safetensors files are loaded, "
                "since other formats can run code; remove it or convert it"
            )
        if path.name.endswith("config.json") and "auto_map" in json.loads(
            path.read_bytes()
        ):
            raise ModelError(
                f"{path.name} of {folder.name} asks to run code of its own (auto_map); "
                "such models are not loaded"
            )


def _check_report(folder: Path, report: dict[str, Any]) -> None:
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(map(str, report[kind]))
        if kind == "unexpected_keys":
            names = [name for name in names if not MADE_BY_CODE.search(name)]
        if names:
            raise ModelError(
                f"The weights in {folder.name} do not fit its architecture: "
                f"{len(names)} {kind.replace('_', ' ')}, such as {names[0]}"
            )


def _check_adapter(model: nn.Module, folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
        stored = set(file.keys())
    expected = {
        name.replace(".default.", ".").removesuffix(".default")
        for name in model.state_dict()
        if "lora_" in name
    }
    if stored != expected:
        odd = sorted(stored ^ expected)
        raise ModelError(
            f"The adapter in {folder.name} does not fit this model: "
            f"{len(odd)} weights differ, such as {odd[0]}"
        )
