"""How `openai-ft` begins: whether Ctrl-C is heard."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

IS_HEARD = """
import signal
from jobs.cli.main import listen_to_ctrl_c
listen_to_ctrl_c()
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.fixture(params=["a terminal", "no terminal"])
def input_(request):
    if request.param == "no terminal":
        yield subprocess.DEVNULL
        return
    outside, inside = pty.openpty()
    yield inside
    os.close(inside)
    os.close(outside)


@pytest.mark.parametrize("on_ctrl_c", [signal.SIG_DFL, signal.SIG_IGN])
def test_an_ignored_ctrl_c_is_heard_at_a_terminal_only(input_, on_ctrl_c):
    said = subprocess.run(
        [sys.executable, "-c", IS_HEARD],
        cwd=ROOT,
        stdin=input_,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, on_ctrl_c),
    ).stdout
    is_heard = on_ctrl_c == signal.SIG_DFL or input_ != subprocess.DEVNULL
    assert said == f"{is_heard}\n"
