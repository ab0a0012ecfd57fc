"""Ends a process when the process that started it has ended, for whatever reason.

`manage.py up` holds the only write end of a pipe and each of its processes a read end:
when `up` is gone, even by kill -9, the kernel closes the pipe and they see its end.
This module does not need Django, so that the model server can use it.
"""

import contextlib
import os
import signal
import threading
import time

VARIABLE = "FINETUNE_LIFELINE_FD"
GRACE_SECONDS = 3.0


def hold() -> None:
    """Starts to watch the lifeline, if this process was given one."""
    # It is removed, so that no process started from here (a trainer) uses it too.
    descriptor = os.environ.pop(VARIABLE, "")
    if not descriptor:
        return
    os.set_inheritable(int(descriptor), False)
    threading.Thread(
        target=_wait_for_end, args=[int(descriptor)], name="lifeline", daemon=True
    ).start()


def _wait_for_end(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(descriptor, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
