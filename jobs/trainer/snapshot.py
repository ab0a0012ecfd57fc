"""[torch] Snapshots: the weights after a step, as a usual model or adapter folder."""

import hashlib
import json
import shutil
import string
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jobs.trainer.compute.model import is_adapted, trained_parameters
from jobs.trainer.contract.runfolder import (
    complete_folder,
    remove_drafts,
    write_json,
)
from jobs.trainer.contract.spec import Spec
from jobs.trainer.contract.weights_file import ADAPTER_CONFIG, files_sha256
from jobs.trainer.processes.sharding import whole

# A model with more parameters is saved in bfloat16: room on the disk matters more than
# the last bits.
LARGE_MODEL_PARAMETERS = 200_000_000
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
ALPHABET = string.digits + string.ascii_letters


def snapshot_id(spec: Spec, step: int) -> str:
    """Returns a snapshot's id, such as `tiny:2026-11-22.snap-09HczpZn5OzIX70imZYslzMI`.

    The part after the day depends on job and step only. The day is today in UTC; a
    saved snapshot keeps the id with the day on which it was made.
    """
    digest = hashlib.sha256(f"{spec.job} {step}".encode()).digest()
    number = int.from_bytes(digest, "big")
    letters = ""
    for _ in range(24):
        number, letter = divmod(number, len(ALPHABET))
        letters += ALPHABET[letter]
    return f"{spec.model.base_model}:{datetime.now(UTC):%Y-%m-%d}.snap-{letters}"


def snapshot_state(model: nn.Module, *, keep: bool = True) -> dict[str, torch.Tensor]:
    """Returns the whole weights by name, in the precision of a snapshot.

    All processes of a job call it together, because each may have a part of the
    weights. A process that does not `keep` them gets an empty dict.
    """
    # Of a model with an adapter only the adapter is saved, so only that is gathered.
    names = trained_parameters(model) if is_adapted(model) else None
    is_large = _is_large(model)
    # Tied weights must stay tied, so that they are saved only once.
    done: dict[int, torch.Tensor] = {}
    state: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if names is not None and name not in names:
            continue
        if id(value) not in done:
            done[id(value)] = _as_saved(value.detach(), is_large, keep)
        if keep:
            state[name] = done[id(value)]
    return state


def _as_saved(value: torch.Tensor, is_large: bool, keep: bool) -> torch.Tensor:
    """Returns one whole weight as it is saved.

    Sharded weights go to the CPU, because the device is too small for all of them.
    """
    full = whole(value)
    if not keep:
        return full.new_empty(0)
    if full is not value:
        full = full.cpu()
    return full.to(torch.bfloat16) if is_large else full


def save_snapshot(
    folder: Path,
    model: nn.Module,
    state: dict[str, torch.Tensor],
    spec: Spec,
    step: int,
    **more: float | bool | str | None,
) -> dict[str, Any]:
    """Writes the snapshot `folder/<step>`, unless it exists; returns its facts.

    `more` is added to the facts. Numbers in it must be finite or None, because JSON has
    no others.
    """
    final = folder / str(step)
    if not final.exists():
        folder.mkdir(exist_ok=True)
        remove_drafts(folder)
        with complete_folder(final) as draft:
            _write_model(draft, model, state, spec)
            write_json(draft / "facts.json", _facts(draft, spec, step) | more)
    facts: dict[str, Any] = json.loads((final / "facts.json").read_bytes())
    return facts


def snapshot_bytes(model: nn.Module) -> int:
    """Returns about how many bytes a snapshot takes: the trained weights as saved."""
    num_trained = sum(p.numel() for p in trained_parameters(model).values())
    return num_trained * (2 if _is_large(model) else 4)


def _is_large(model: nn.Module) -> bool:
    return sum(p.numel() for p in model.parameters()) > LARGE_MODEL_PARAMETERS


def _write_model(
    draft: Path, model: Any, state: dict[str, torch.Tensor], spec: Spec
) -> None:
    if is_adapted(model):
        model.save_pretrained(draft, state_dict=state, save_embedding_layers=False)
        _forget_path(draft / ADAPTER_CONFIG, spec)
        return
    model.save_pretrained(draft, state_dict=state, max_shard_size="5GB")
    for name in TOKENIZER_FILES:
        source = Path(spec.model.path) / name
        if source.is_file():
            shutil.copyfile(source, draft / name)


def _forget_path(config: Path, spec: Spec) -> None:
    """Replaces the base model's path by its id, which has a meaning elsewhere too."""
    value = json.loads(config.read_bytes())
    write_json(config, value | {"base_model_name_or_path": spec.model.base_model})
    (config.parent / "README.md").unlink(missing_ok=True)


def _facts(draft: Path, spec: Spec, step: int) -> dict[str, Any]:
    weights = sorted(draft.glob("*.safetensors"))
    return {
        "id": snapshot_id(spec, step),
        "job": spec.job,
        "step": step,
        "base_model": spec.model.base_model,
        "method": spec.method,
        "parent_snapshot": spec.parent_snapshot,
        "dataset_sha256": spec.train.sha256,
        "sha256": files_sha256(weights),
        "num_bytes": sum(path.stat().st_size for path in draft.iterdir()),
    }
