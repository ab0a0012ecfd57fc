"""`python -m jobs.serving`: holds loaded models, streams completions on a Unix socket.

Nothing here imports torch: the thread that generates does, once /health is answered.
"""

import argparse
import logging
import os
import socket
import sys
from pathlib import Path

import uvicorn

from finetune_site.common import lifeline
from jobs.serving import client
from jobs.serving.app import App
from jobs.serving.inbox import Inbox
from jobs.trainer.contract.quick_imports import quick_imports

PROJECT = Path(__file__).resolve().parent.parent.parent
BACKLOG = 128
SHUTDOWN_SECONDS = 2


def main() -> None:
    """Serves until the process is told to end."""
    parser = argparse.ArgumentParser(prog="jobs.serving", description=__doc__)
    parser.add_argument("--socket", type=Path, help="where to listen")
    given = parser.parse_args().socket
    path = given.absolute() if given else client.socket_path(_data_dir())
    lifeline.hold()
    _make_private(path.parent, ours=given is None)
    listener = _listen(path)
    config = uvicorn.Config(
        App(_generate),
        lifespan="on",
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _data_dir() -> Path:
    return Path(os.environ.get("FINETUNE_DATA_DIR") or PROJECT / "data")


def _make_private(folder: Path, *, ours: bool) -> None:
    """Makes the socket's folder private, or exits if others can reach it.

    A folder that was given is never changed, since it may be a public one.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_mine = folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
    if ours and is_mine:
        folder.chmod(0o700)
    if not client.is_private(folder):
        sys.exit(f"Others can reach {folder}; the socket needs a folder of mode 700.")


def _listen(path: Path) -> socket.socket:
    """Returns a socket that only this user can reach, in place of one left behind."""
    if client.is_alive(path):
        sys.exit(f"A model server already listens on {path}; end it first.")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(BACKLOG)
    return listener


def _generate(inbox: Inbox) -> None:
    # Imported here, once the server answers: it takes seconds and hundreds of MB.
    try:
        with quick_imports():
            from jobs.serving.scheduler import Scheduler

        Scheduler(inbox).run()
    except BaseException:
        # Without this thread nobody would ever be answered. `up` starts a new process.
        logging.exception("The model server cannot generate any more")
        os._exit(1)


if __name__ == "__main__":
    main()
