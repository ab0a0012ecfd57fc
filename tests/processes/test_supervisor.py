"""The supervisor and the lifeline, with small stand-ins for the processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from finetune_site.processes import addresses, groups, prepare, supervisor
from finetune_site.processes.programs import Program
from tests.support.running_site import ROOT, wait_for


@pytest.fixture
def make_supervisor(tmp_path, monkeypatch):
    """Runs in a thread, where no signal handler can be set."""
    monkeypatch.setattr(supervisor.signal, "signal", lambda *_: None)
    started = []

    def make(program, heartbeats=dict):
        lines: list[str] = []
        watch = supervisor.Supervisor(
            programs=[program],
            run_dir=tmp_path,
            root=tmp_path,
            env=dict(os.environ),
            listener=socket.socket(),
            heartbeats=heartbeats,
            say=lines.append,
        )
        thread = threading.Thread(target=watch.run)
        thread.start()
        started.append((watch, thread))
        return watch, lines

    yield make
    for watch, thread in started:
        watch.stop_asked.set()
        thread.join(10)


def test_a_silent_process_is_ended_and_started_again(make_supervisor, monkeypatch):
    monkeypatch.setattr(supervisor, "HANG_CHECK_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "HANGS_AFTER_SECONDS", 0.5)
    program = Program("worker", "worker", ["sleep", "60"], has_heartbeat=True)
    _, lines = make_supervisor(program, lambda: {"worker": "always the same"})
    wait_for(lambda: lines, 5, "an ended worker")
    assert lines[0].startswith("The worker gave no sign of life and was ended.")


# Beside others it may not get the third of a core that tells it from one that hangs.
@pytest.mark.alone
def test_a_silent_process_that_works_hard_is_left_alone(make_supervisor, monkeypatch):
    monkeypatch.setattr(supervisor, "HANG_CHECK_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "HANGS_AFTER_SECONDS", 0.2)
    argv = [sys.executable, "-c", "while True: pass"]
    program = Program("worker", "worker", argv, has_heartbeat=True)
    _, lines = make_supervisor(program, lambda: {"worker": "always the same"})
    time.sleep(2.5)
    assert lines == []


def test_a_process_that_keeps_dying_is_tried_less_often(make_supervisor):
    program = Program("web", "web", ["false"])
    _, lines = make_supervisor(program)
    wait_for(lambda: len(lines) > 2, 5, "three deaths")
    assert lines[0] == "The web ended with status 1. It starts again now."
    assert lines[2].endswith("It starts again in 1 s.")


# Its only program says so each time it is started.
SUPERVISOR = """
import os, socket, sys
from pathlib import Path
from finetune_site.processes.programs import Program
from finetune_site.processes.supervisor import Supervisor
folder = Path(sys.argv[1])
Supervisor(
    programs=[Program("web", "web", ["echo", "started"])],
    run_dir=folder,
    root=folder,
    env=dict(os.environ),
    listener=socket.socket(),
    heartbeats=dict,
    say=lambda text: None,
).run()
"""


@pytest.fixture
def start_supervisor(tmp_path):
    """Starts one as a process that treats SIGHUP in a given way, once it is at work."""
    started = []

    def start(on_hangup):
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, tmp_path],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, on_hangup),
        )
        started.append(process)
        assert process.stdout.readline() == "started\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_terminal_that_closes_ends_the_site(start_supervisor):
    process = start_supervisor(signal.SIG_DFL)
    process.send_signal(signal.SIGHUP)
    assert process.wait(10) == 0


def test_under_nohup_the_site_outlives_its_terminal(start_supervisor):
    process = start_supervisor(signal.SIG_IGN)
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == process.stdout.readline() == "started\n"
    process.terminate()
    assert process.wait(10) == 0


def test_the_end_of_the_lifeline_ends_the_group_but_no_other_session(tmp_path):
    read, write = os.pipe()
    script = (
        "import signal, subprocess, time; from finetune_site.common import lifeline;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "lifeline.hold();"
        "print(subprocess.Popen(['sleep', '60']).pid, flush=True);"
        "print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid,"
        " flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "FINETUNE_LIFELINE_FD": str(read)},
        pass_fds=[read],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    child, trainer = (int(process.stdout.readline()) for _ in range(2))
    os.close(write)
    assert process.wait(6) == -signal.SIGKILL
    os.close(read)
    try:
        assert psutil.Process(trainer).is_running()
        wait_for(lambda: not is_alive(child), 2, "the child's end")
    finally:
        os.kill(trainer, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_group_without_the_token_is_not_ours(tmp_path):
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)  # noqa: S607
    try:
        stranger = groups.Group(process.pid, "another token")
        assert list(groups.members(stranger)) == []
    finally:
        process.kill()
        process.wait()


def test_a_record_cut_short_is_no_record(tmp_path):
    (tmp_path / "web.json").write_text('{"pid": 12')
    assert groups.read_group(tmp_path / "web.json") is None


def test_the_lock_is_free_again_after_its_holder(tmp_path):
    script = (
        "from pathlib import Path; from finetune_site.processes import prepare;"
        f"prepare.take_site_lock(Path({str(tmp_path)!r}))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    os.close(prepare.take_site_lock(tmp_path))


def test_listening_on_all_addresses_allows_this_machines_names():
    hosts = addresses.allowed_hosts("0.0.0.0")  # noqa: S104
    assert {"127.0.0.1", "localhost", socket.gethostname().lower()} <= set(hosts)


def test_an_ipv6_address_is_written_as_browsers_write_it():
    assert addresses.allowed_hosts("fd00::7")[-1] == "[fd00::7]"
    assert addresses.site_url("fd00::7", 8000) == "http://[fd00::7]:8000"


def test_a_program_that_cannot_be_started_is_tried_again(make_supervisor):
    program = Program("web", "web", ["/no/such/program"])
    _, lines = make_supervisor(program)
    wait_for(lambda: lines, 5, "a line about it")
    assert lines[0].startswith("The web could not be started: No such file")
