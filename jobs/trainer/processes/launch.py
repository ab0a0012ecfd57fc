"""[torch] Decides how many processes train a job, and starts them.

Under torchrun all processes run already. Otherwise the process that was launched is
number 0: it holds the run folder's lock and starts the others, one for each device.
When one process ends too early, all of them end, and the job goes on from its
checkpoint.
"""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist

from jobs.trainer.contract.runfolder import MICRO_BATCH_TOKENS, RunFolder
from jobs.trainer.contract.spec import Spec, SpecError
from jobs.trainer.processes.ranks import Ranks
from jobs.trainer.rows.memory import memory_parts, micro_batch_rows
from jobs.trainer.rows.plan import check_model_folder

logger = logging.getLogger(__name__)

# In the environment of the processes that process 0 starts: the pipe to read from,
# which ends when process 0 ends.
LIFELINE = "FINETUNE_RANKS_LIFELINE_FD"
# The network interface that every machine has, with or without a network.
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
# The share of a device's memory that an estimate may fill. The rest is for what the
# estimate leaves out.
USABLE_SHARE = 0.9
# A process waits so long for the thread of process 0 that knows why another one is
# gone.
FAREWELL_SECONDS = 5.0


def is_first() -> bool:
    """Returns whether this is process 0 of its job."""
    return int(os.environ.get("RANK", 0)) == 0


def join(folder: RunFolder) -> Ranks:
    """Connects this process with the others of its job; returns once all are there."""
    if "RANK" in os.environ:
        return _join_others(folder)
    size = num_processes(Spec.load(folder.spec))
    ranks = Ranks(0, size)
    if size > 1:
        store = folder.path / "ranks.store"
        store.unlink(missing_ok=True)
        _start_others(folder, size)
        ranks.connect(dist.FileStore(str(store), size))
    return ranks


def _join_others(folder: RunFolder) -> Ranks:
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    store = None
    if descriptor := os.environ.pop(LIFELINE, ""):
        _hold(int(descriptor))
        store = dist.FileStore(str(folder.path / "ranks.store"), ranks.size)
    ranks.connect(store)
    return ranks


def num_processes(spec: Spec) -> int:
    """Returns how many processes train the job.

    It is one for each device, but not more than a step has rows, unless the model needs
    all devices to fit. Raises SpecError if the spec asks for more than there are.
    """
    devices = torch.cuda.device_count()
    if spec.processes:
        if 0 < devices < spec.processes:
            raise SpecError(
                f"processes is {spec.processes}, and this machine has {devices} devices"
            )
        return spec.processes
    if devices < 2:
        return 1
    check_model_folder(spec)
    return devices if needs_sharding(spec) else min(devices, spec.batch_size)


def needs_sharding(spec: Spec, size: int = 1) -> bool:
    """Returns whether one device is too small for the whole job, by an estimate."""
    rows = micro_batch_rows(spec.batch_size, spec.max_tokens, MICRO_BATCH_TOKENS)
    parts = memory_parts(
        Path(spec.model.path),
        method=spec.method,
        tokens_at_once=rows * spec.max_tokens,
        max_tokens=spec.max_tokens,
        learned_share=1.0,
    )
    return sum(parts.values()) > USABLE_SHARE * _device_bytes(size)


def _device_bytes(size: int) -> int:
    """Returns the memory of one device in bytes.

    On a machine without GPUs the processes share the machine's memory.
    """
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return machine // size


def is_sharded(spec: Spec, size: int) -> bool:
    """Returns whether each of `size` processes keeps only a part of the weights."""
    if size == 1 or spec.sharding == "never":
        return False
    return spec.sharding == "always" or needs_sharding(spec, size)


# ----- the others, as process 0 starts them


def _start_others(folder: RunFolder, size: int) -> None:
    """Starts the other processes.

    They are in the session and process group of this one, so a signal reaches all.
    """
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, LOOPBACK)
    # Only this process has the writing end. However this process ends, the kernel then
    # closes it, and the others notice the end of the pipe.
    lifeline, _held_to_the_end = os.pipe()
    for rank in range(1, size):
        place = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            LIFELINE: str(lifeline),
        }
        child = subprocess.Popen(
            _own_argv(), env=os.environ | place, pass_fds=(lifeline,)
        )
        threading.Thread(
            target=_attend, args=[folder, rank, child], daemon=True
        ).start()
    os.close(lifeline)


def _own_argv() -> list[str]:
    """Returns the command of this process, with which the others are started too."""
    return [sys.executable, *sys.orig_argv[1:]]


def _attend(folder: RunFolder, rank: int, child: subprocess.Popen[bytes]) -> None:
    """Ends this process when a child ends too early, because all would wait for it."""
    code = child.wait()
    if code == 0:
        return
    logger.error("Process %d ended with code %d", rank, code)
    if folder.full.exists():
        start_over()
    os._exit(1)


def start_over() -> NoReturn:
    """Starts all processes of the job over. Any process may call it.

    Process 0, which started the others, replaces its own program, so the lock stays
    held. Any other process ends, and the one that started it notices that.
    """
    if "RANK" in os.environ:
        os._exit(1)
    os.execv(sys.executable, _own_argv())  # noqa: S606 (no shell is wanted)


def _hold(lifeline: int) -> None:
    os.set_inheritable(lifeline, False)
    threading.Thread(target=_end_with_first, args=[lifeline], daemon=True).start()


def _end_with_first(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)
