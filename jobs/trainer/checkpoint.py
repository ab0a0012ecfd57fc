"""[torch] Checkpoints: all that a job needs to go on exactly where it was.

`checkpoint/<step>/` holds the trained weights in training precision, the optimiser's
state and the random state as safetensors. A folder has its name only when it is
complete; the newest one counts.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from jobs.trainer.model import trained_parameters
from jobs.trainer.runfolder import complete_folder, remove_drafts


def save_checkpoint(
    folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write `folder/<step>`, steps done, and only then remove older ones."""
    final = folder / str(step)
    if final.exists():
        return
    folder.mkdir(exist_ok=True)
    remove_drafts(folder)
    with complete_folder(final) as draft:
        weights = trained_parameters(model)
        _save(weights, draft / "model.safetensors")
        _save(_optimizer_state(weights, optimizer), draft / "optimizer.safetensors")
        _save({"cpu": torch.get_rng_state()}, draft / "random.safetensors")
    for path in folder.iterdir():
        if path != final:
            shutil.rmtree(path, ignore_errors=True)


def latest_checkpoint(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    complete = [path for path in folder.iterdir() if path.name.isdigit()]
    return max(complete, key=lambda path: int(path.name), default=None)


def load_checkpoint(
    checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Put everything back in place, so that the next step equals the one not done.

    Returns the steps done.
    """
    weights = trained_parameters(model)
    with torch.no_grad():
        stored = load_file(checkpoint / "model.safetensors")
        for name, parameter in weights.items():
            parameter.copy_(stored.pop(name))
        if stored:
            raise ValueError(f"{checkpoint} holds other weights: {sorted(stored)}")
    _load_optimizer(load_file(checkpoint / "optimizer.safetensors"), weights, optimizer)
    torch.set_rng_state(load_file(checkpoint / "random.safetensors")["cpu"])
    return int(checkpoint.name)


def _optimizer_state(
    weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """Flat: `exp_avg/NAME`, `exp_avg_sq/NAME` and `step/NAME` for each weight."""
    return {
        f"{kind}/{name}": value
        for name, parameter in weights.items()
        for kind, value in optimizer.state[parameter].items()
    }


def _load_optimizer(
    stored: dict[str, torch.Tensor],
    weights: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    for key, value in stored.items():
        kind, name = key.split("/", maxsplit=1)
        parameter = weights[name]
        optimizer.state[parameter][kind] = value.to(parameter.device)


def _save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
