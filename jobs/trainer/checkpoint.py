"""[torch] Checkpoints: all that a job needs to go on exactly where it was.

`checkpoint/<step>/` holds the trained weights in training precision, the optimiser's
state and the random state as safetensors. A folder has its name only when it is
complete; the newest one counts. The files are the same from any number of processes.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from jobs.trainer.compute.model import trained_parameters
from jobs.trainer.contract.runfolder import complete_folder, remove_drafts
from jobs.trainer.processes.sharding import part_like, whole

Tensors = dict[str, torch.Tensor]

TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.uint8: "U8",
}


def checkpoint_files(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Tensors]:
    """What goes into a checkpoint, by file. Tensors may be sharded."""
    weights = trained_parameters(model)
    return {
        "model.safetensors": dict(weights),
        "optimizer.safetensors": optimizer_state(weights, optimizer),
        "random.safetensors": {"cpu": torch.get_rng_state()},
    }


def save_checkpoint(folder: Path, step: int, files: dict[str, Tensors]) -> None:
    """Write `folder/<step>`, steps done, and only then remove older ones.

    Of several processes one calls it, while the others `gather` the same files.
    """
    final = folder / str(step)
    folder.mkdir(exist_ok=True)
    remove_drafts(folder)
    with complete_folder(final) as draft:
        for name, tensors in files.items():
            _write(draft / name, tensors)
    for path in folder.iterdir():
        if path != final:
            shutil.rmtree(path, ignore_errors=True)


def gather(files: dict[str, Tensors]) -> None:
    """The part of the processes that do not write: tensors come together one by one."""
    for tensors in files.values():
        for value in tensors.values():
            whole(value)


def latest_checkpoint(folder: Path) -> int | None:
    """The steps done; the checkpoint is `folder/<step>`."""
    if not folder.is_dir():
        return None
    complete = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    return max(complete, default=None)


def load_checkpoint(
    checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Put everything back in place, so that the next step equals the one not done."""
    load_weights(checkpoint / "model.safetensors", model)
    weights = trained_parameters(model)
    load_optimizer(checkpoint / "optimizer.safetensors", weights, optimizer)
    torch.set_rng_state(load_file(checkpoint / "random.safetensors")["cpu"])


def load_weights(path: Path, model: nn.Module) -> None:
    weights = trained_parameters(model)
    with torch.no_grad(), safe_open(path, framework="pt") as stored:
        if set(stored.keys()) != set(weights):
            raise ValueError(f"{path} holds other weights: {stored.keys()}")
        for name, parameter in weights.items():
            parameter.copy_(part_like(parameter, stored.get_tensor(name)))


def optimizer_state(
    weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> Tensors:
    """Flat, for AdamW `exp_avg/NAME`, `exp_avg_sq/NAME` and `step/NAME` of each weight
    that it changes.
    """
    return {
        f"{kind}/{name}": value
        for name, parameter in weights.items()
        if parameter in optimizer.state
        for kind, value in optimizer.state[parameter].items()
    }


def load_optimizer(
    path: Path, weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    with safe_open(path, framework="pt") as stored:
        for key in stored.keys():  # noqa: SIM118 (it is no dict)
            kind, name = key.split("/", maxsplit=1)
            parameter = weights[name]
            value = part_like(parameter, stored.get_tensor(key))
            optimizer.state[parameter][kind] = value


def _write(path: Path, tensors: Tensors) -> None:
    """A safetensors file, one tensor at a time: no more than one needs to be whole."""
    with path.open("wb") as file:
        header = _header(tensors)
        file.write(len(header).to_bytes(8, "little") + header)
        for value in tensors.values():
            numbers = whole(value.detach()).cpu().contiguous().reshape(-1)
            # numpy's own `tofile` would not say that the disk is full.
            file.write(numbers.view(torch.uint8).numpy().data)


def _header(tensors: Tensors) -> bytes:
    """Where each tensor's bytes lie; https://github.com/huggingface/safetensors."""
    entries = {}
    end = 0
    for name, value in tensors.items():
        begin, end = end, end + value.numel() * value.element_size()
        entries[name] = {
            "dtype": TYPE_NAMES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries).encode()
    return text.ljust(-(-len(text) // 8) * 8)
