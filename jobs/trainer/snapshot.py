"""[torch] Snapshots: the weights at a step as an ordinary model or adapter folder."""

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
from jobs.trainer.processes.sharding import whole

# Above this a snapshot is saved in bfloat16: the disk matters more than the last bits.
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
    """Such as `tiny:2026-11-22.snap-09HczpZn5OzIX70imZYslzMI`.

    The part behind the day is a function of job and step; the day is the one on which
    the snapshot was first made, which its folder remembers.
    """
    digest = hashlib.sha256(f"{spec.job} {step}".encode()).digest()
    number = int.from_bytes(digest, "big")
    letters = ""
    for _ in range(24):
        number, letter = divmod(number, len(ALPHABET))
        letters += ALPHABET[letter]
    return f"{spec.model.base_model}:{datetime.now(UTC):%Y-%m-%d}.snap-{letters}"


def snapshot_state(model: nn.Module, *, keep: bool = True) -> dict[str, torch.Tensor]:
    """Whole weights in the precision of a snapshot, by name.

    All processes of a job call it, for each may have a part of them; those that do not
    `keep` them get none.
    """
    # Of an adapter's model only the adapter: the rest would come together for nothing.
    names = trained_parameters(model) if is_adapted(model) else None
    is_large = _is_large(model)
    # Weights that share their memory go on sharing it, so that they are saved once.
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
    """Sharded weights are kept off the device, which is too small for all of them."""
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
    **losses: float | bool | None,
) -> dict[str, Any]:
    """Write `folder/<step>` and return its facts; one that is there already is kept.

    Losses are finite, as JSON has them.
    """
    final = folder / str(step)
    if not final.exists():
        folder.mkdir(exist_ok=True)
        remove_drafts(folder)
        with complete_folder(final) as draft:
            _write_model(draft, model, state, spec)
            write_json(draft / "facts.json", _facts(draft, spec, step) | losses)
    facts: dict[str, Any] = json.loads((final / "facts.json").read_bytes())
    return facts


def snapshot_bytes(model: nn.Module) -> int:
    """About what a snapshot takes on the disk: what is trained, as it is saved."""
    num_trained = sum(p.numel() for p in trained_parameters(model).values())
    return num_trained * (2 if _is_large(model) else 4)


def _is_large(model: nn.Module) -> bool:
    return sum(p.numel() for p in model.parameters()) > LARGE_MODEL_PARAMETERS


def _write_model(
    draft: Path, model: Any, state: dict[str, torch.Tensor], spec: Spec
) -> None:
    if is_adapted(model):
        model.save_pretrained(draft, state_dict=state, save_embedding_layers=False)
        _forget_path(draft / "adapter_config.json", spec)
        return
    model.save_pretrained(draft, state_dict=state, max_shard_size="5GB")
    for name in TOKENIZER_FILES:
        source = Path(spec.model.path) / name
        if source.is_file():
            shutil.copyfile(source, draft / name)


def _forget_path(config: Path, spec: Spec) -> None:
    """The base model by its id: a path of this machine means nothing elsewhere."""
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
        "sha256": _sha256(weights),
        "num_bytes": sum(path.stat().st_size for path in draft.iterdir()),
    }


def _sha256(paths: list[Path]) -> str:
    """Of the weight files in the order of their names."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
