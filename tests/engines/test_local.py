import json
import os
import shlex
import signal
import subprocess
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
from django.utils import timezone

from jobs.engines import processes
from jobs.engines.base import RunFolderError
from jobs.engines.local import LocalEngine
from jobs.models import Job
from jobs.services.specs import build_spec
from jobs.trainer.contract.runfolder import RunFolder
from jobs.trainer.contract.spec import Spec
from tests.support import factories
from tests.support.running_site import wait_for

# Takes no notice of control.json nor of SIGTERM.
STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1], "stubborn").touch()
time.sleep(60)
"""


@pytest.fixture
def engine() -> LocalEngine:
    return LocalEngine()


@pytest.fixture
def job(db) -> Job:
    return factories.make_job(status=Job.Status.STARTING, claimed_at=timezone.now())


def start(engine, job) -> None:
    engine.start(job, build_spec(job))


def num_trainers(job) -> int:
    return len(list(processes.find_trainers(job.folder)))


def wait_for_end(job) -> None:
    end = time.monotonic() + 10
    while num_trainers(job) or not RunFolder(job.folder).lock_is_free():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_start_writes_the_spec_and_a_trainer_lives(engine, job):
    start(engine, job)
    assert Spec.load(RunFolder(job.folder).spec) == build_spec(job)
    assert engine.poll(job).alive
    assert num_trainers(job) == 1


def test_ranks_that_share_a_process_group_are_signalled_once(monkeypatch, tmp_path):
    signalled = []
    ranks = [SimpleNamespace(pid=pid) for pid in (12, 11, 13)]
    monkeypatch.setattr(processes, "find_trainers", lambda folder: ranks)
    monkeypatch.setattr(os, "getpgid", lambda pid: 11)
    monkeypatch.setattr(os, "killpg", lambda group, _: signalled.append(group))
    monkeypatch.setattr(os, "kill", lambda pid, _: signalled.append(-pid))
    processes.end_trainers(tmp_path, force=False)
    assert signalled == [11]


def test_starting_twice_gives_one_trainer(engine, job):
    start(engine, job)
    start(engine, job)
    assert num_trainers(job) == 1


def test_start_waits_for_a_trainer_that_is_leaving(engine, job):
    factories.make_run_events(job, {"type": "status", "status": "paused"})
    lock = RunFolder(job.folder).take_lock()
    assert not engine.poll(job).launched
    threading.Timer(0.3, os.close, [lock]).start()
    start(engine, job)
    assert engine.poll(job).launched


def test_a_trainer_has_a_session_of_its_own_and_no_secrets(
    engine, job, stand_in, monkeypatch
):
    stand_in("import time; time.sleep(60)")
    secrets = ("SECRET_KEY", "HF_TOKEN", "DATABASE_URL")
    for name in secrets:
        monkeypatch.setenv(name, "very secret")
    start(engine, job)
    (process,) = processes.find_trainers(job.folder)
    assert os.getsid(process.pid) == process.pid
    assert not set(secrets) & set(process.environ())
    assert process.environ()["GOMP_SPINCOUNT"] == "2000"


def test_ending_a_trainer_leaves_the_script_that_started_it(engine, job, stand_in):
    stand_in("import time; time.sleep(60)")
    job.folder.mkdir(parents=True)
    argv = shlex.join(processes.trainer_argv(job.folder))
    script = subprocess.Popen(  # noqa: S602 (a script of a person)
        f"{argv} & sleep 60", shell=True, start_new_session=True
    )
    try:
        wait_for(lambda: list(processes.find_trainers(job.folder)), 10, "a trainer")
        processes.end_trainers(job.folder, force=True)
        wait_for(lambda: not list(processes.find_trainers(job.folder)), 10, "its end")
        assert script.poll() is None
    finally:
        os.killpg(script.pid, signal.SIGKILL)
        script.wait()


def test_the_spec_is_written_once(engine, job, stand_in):
    stand_in("pass")
    start(engine, job)
    wait_for_end(job)
    job.epochs = 99
    start(engine, job)
    assert Spec.load(RunFolder(job.folder).spec).epochs == 4


def test_a_job_that_is_no_longer_starting_is_not_started(engine, job):
    Job.objects.update(status=Job.Status.CANCELLED)
    start(engine, job)
    assert num_trainers(job) == 0


def test_a_job_that_has_ended_in_its_run_folder_is_not_started(engine, job):
    factories.make_run_events(job, {"type": "status", "status": "succeeded"})
    start(engine, job)
    assert num_trainers(job) == 0


def test_every_start_is_counted(engine, job, stand_in):
    stand_in("pass")
    for _ in range(2):
        start(engine, job)
        wait_for_end(job)
    assert json.loads((job.folder / "trainer.json").read_bytes())["attempt"] == 2


def test_an_ended_trainer_leaves_no_zombie(engine, job, stand_in):
    stand_in("pass")
    start(engine, job)
    pid = json.loads((job.folder / "trainer.json").read_bytes())["pid"]
    wait_for_end(job)
    wait_for(lambda: not psutil.pid_exists(pid), 5, "no zombie is left")


def test_poll_tells_a_launch_that_died_from_one_to_come(engine, job, stand_in):
    assert not engine.poll(job).launched
    stand_in("pass")
    start(engine, job)
    wait_for_end(job)
    assert engine.poll(job).launched
    job.claimed_at = timezone.now()
    assert not engine.poll(job).launched


def test_poll_leaves_a_half_written_line_alone(engine, job):
    path = factories.make_run_events(job, factories.step_event(1))
    whole = path.stat().st_size
    with path.open("a") as file:
        file.write('{"seq": 2, "ti')
    report = engine.poll(job)
    assert [event["seq"] for event in report.events] == [1]
    assert report.offset == whole


def test_poll_reads_on_when_the_file_lost_its_end(engine, job):
    steps = [factories.step_event(step) for step in (1, 2, 3)]
    path = factories.make_run_events(job, *steps)
    job.last_seq, job.events_offset = 3, path.stat().st_size
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:2]))
    assert engine.poll(job).events == []
    factories.make_run_events(job, *steps[2:], factories.step_event(4, loss=2.25))
    assert [event["step"] for event in engine.poll(job).events] == [4]


@pytest.mark.parametrize("line", ["no json\n", '{"seq": 9}\n'])
def test_poll_refuses_events_that_are_broken_or_missing(engine, job, line):
    path = factories.make_run_events(job, factories.step_event(1))
    with path.open("a") as file:
        file.write(line)
    with pytest.raises(RunFolderError, match="Start a new job"):
        engine.poll(job)


def test_a_vanished_run_folder_is_named(engine, job):
    job.last_seq = 3
    with pytest.raises(RunFolderError, match="is gone"):
        engine.poll(job)
    with pytest.raises(RunFolderError, match="is gone"):
        start(engine, job)


def test_control_carries_what_people_want(engine, job):
    job.folder.mkdir(parents=True)
    job.want, job.snapshot_requests = Job.Want.PAUSE, 2
    engine.control(job)
    control = RunFolder(job.folder).read_control()
    assert (control.want, control.snapshot_request) == ("pause", 2)


def test_a_trainer_that_does_not_obey_is_ended(engine, job, stand_in, monkeypatch):
    monkeypatch.setattr("jobs.engines.local.OBEY_SECONDS", 0.0)
    monkeypatch.setattr("jobs.engines.local.END_SECONDS", 0.3)
    stand_in(STUBBORN)
    job.want = Job.Want.STOP
    start(engine, job)
    wait_for((job.folder / "stubborn").exists, 10, "the trainer ignores SIGTERM")
    engine.enforce(job)
    time.sleep(0.1)
    assert num_trainers(job) == 1
    time.sleep(0.3)
    engine.enforce(job)
    wait_for_end(job)
