"""Lists the processes of a site."""

import sys
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Program:
    name: str
    title: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    # It gets the listening socket, as descriptor FINETUNE_LISTEN_FD.
    listens: bool = False
    # It is told nothing that only the site needs to know.
    without_secrets: bool = False
    # It writes a Heartbeat row. When that grows old, the process hangs.
    has_heartbeat: bool = False


# A trainer and the model server share the cores. If their threads kept a core busy
# while they wait, both would lose nine tenths of their speed.
PASSIVE_THREADS = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

PROGRAMS = [
    Program(
        "web",
        "web",
        [sys.executable, "-m", "finetune_site.processes.web"],
        listens=True,
    ),
    Program(
        "watcher",
        "watcher",
        [sys.executable, "manage.py", "watch_jobs"],
        has_heartbeat=True,
    ),
    Program(
        "worker",
        "worker",
        [sys.executable, "manage.py", "qcluster", "--skip-checks"],
        has_heartbeat=True,
    ),
    Program(
        "model_server",
        "model server",
        [sys.executable, "-m", "jobs.serving"],
        env=PASSIVE_THREADS,
        without_secrets=True,
    ),
]
