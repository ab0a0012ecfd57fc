"""[torch] Checkpoints: everything that a job needs to go on exactly where it was.

`checkpoint/<step>/` holds the trained weights in training precision, the optimiser's
state and the random state as safetensors. A folder gets its name only when it is
complete, and the newest one counts. The files do not depend on the number of processes.
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
    """Returns the tensors of a checkpoint by file name. They may be sharded."""
    weights = trained_parameters(model)
    return {
        "model.safetensors": dict(weights),
        "optimizer.safetensors": optimizer_state(weights, optimizer),
        "random.safetensors": {"cpu": torch.get_rng_state()},
    }


def save_checkpoint(folder: Path, step: int, files: dict[str, Tensors]) -> None:
    """Writes `folder/<step>` and only then removes older checkpoints.

    `step` is the number of steps done. Of several processes, one calls this function
    while the others call `gather` with the same files.
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
    """Takes part in a checkpoint that another process writes.

    Sharded tensors come together one by one, in the order in which they are written.
    """
    for tensors in files.values():
        for value in tensors.values():
            whole(value)


def latest_checkpoint(folder: Path) -> int | None:
    """Returns the step of the newest checkpoint, or None without one.

    The checkpoint itself is the folder `folder/<step>`.
    """
    if not folder.is_dir():
        return None
    complete = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    return max(complete, default=None)


def load_checkpoint(
    checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Loads weights, optimiser state and random state from a checkpoint folder.

    The next step is then the same as if the job had never stopped.
    """
    load_weights(checkpoint / "model.safetensors", model)
    weights = trained_parameters(model)
    load_optimizer(checkpoint / "optimizer.safetensors", weights, optimizer)
    torch.set_rng_state(load_file(checkpoint / "random.safetensors")["cpu"])


def load_weights(path: Path, model: nn.Module) -> None:
    """Loads the trained weights from a file; raises ValueError if it has others."""
    weights = trained_parameters(model)
    with torch.no_grad(), safe_open(path, framework="pt") as stored:
        if set(stored.keys()) != set(weights):
            raise ValueError(f"{path} holds other weights: {stored.keys()}")
        for name, parameter in weights.items():
            parameter.copy_(part_like(parameter, stored.get_tensor(name)))


def optimizer_state(
    weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> Tensors:
    """Returns the optimiser's state as one flat dict of tensors.

    For AdamW the keys are `exp_avg/NAME`, `exp_avg_sq/NAME` and `step/NAME`, for each
    weight that this optimiser changes.
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
    """Loads what `optimizer_state` returned from a safetensors file."""
    with safe_open(path, framework="pt") as stored:
        for key in stored.keys():  # noqa: SIM118 (it is no dict)
            kind, name = key.split("/", maxsplit=1)
            parameter = weights[name]
            value = part_like(parameter, stored.get_tensor(key))
            optimizer.state[parameter][kind] = value


def _write(path: Path, tensors: Tensors) -> None:
    """Writes a safetensors file one tensor at a time, so that only one is whole."""
    with path.open("wb") as file:
        header = _header(tensors)
        file.write(len(header).to_bytes(8, "little") + header)
        for value in tensors.values():
            numbers = whole(value.detach()).cpu().contiguous().reshape(-1)
            # The `tofile` of numpy would not report a full disk.
            file.write(numbers.view(torch.uint8).numpy().data)


def _header(tensors: Tensors) -> bytes:
    """Returns the header, which says where the bytes of each tensor are.

    Source of the format: https://github.com/huggingface/safetensors
    """
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
