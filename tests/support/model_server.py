"""The model server as a real process over its socket, with the real `tiny`."""

import signal
import time
from contextlib import contextmanager

from jobs.serving import client
from tests.support.paths import ROOT
from tests.support.warm_starts import WarmPython

TINY = {"base_model": "tiny", "path": str(ROOT / "jobs/base_models/tiny")}


def start_server(data_dir):
    settings = {"FINETUNE_DATA_DIR": str(data_dir), "OMP_NUM_THREADS": "1"}
    log = data_dir / "model-server.log"
    process = WarmPython(["-m", "jobs.serving"], log, settings)
    socket = client.socket_path(data_dir)
    until = time.monotonic() + 20
    while not client.is_alive(socket):
        assert process.is_alive() and time.monotonic() < until, log.read_text()
        time.sleep(0.02)
    return process, socket


@contextmanager
def running_server(data_dir):
    """Yields the socket of a running model server."""
    process, socket = start_server(data_dir)
    try:
        yield socket
    finally:
        process.terminate()
        assert process.wait(10) in (0, -signal.SIGTERM)
