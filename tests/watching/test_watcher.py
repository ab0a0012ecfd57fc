import os
import shutil
import signal
import time
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone
from django_q.models import OrmQ

from jobs.engines import processes
from jobs.engines.local import LocalEngine
from jobs.history.crashes import crash_of
from jobs.models import Event, Heartbeat, Job, Snapshot
from jobs.selectors.sources import model_source
from jobs.services import jobs as services
from jobs.services.ingestion import ingest
from jobs.services.recovery import recover
from jobs.services.specs import build_spec
from jobs.trainer.contract.runfolder import Numerics, RunFolder
from jobs.watching import watcher as watching
from jobs.watching.watcher import Watcher
from tests.support import factories
from tests.support.running_site import wait_for
from tests.support.watching import run_tasks, watch

Status = Job.Status


# The beginning of what Python writes before it ends by an error.
TRACEBACK = """Traceback (most recent call last):
  File "trainer.py", line 1, in <module>
    run: int = 1
"""


@pytest.fixture
def running(db) -> Job:
    """Yields a job whose trainer seems to live."""
    job = factories.make_job(
        status=Status.RUNNING, claimed_at=timezone.now(), started_at=timezone.now()
    )
    factories.make_run_events(job, {"type": "status", "status": "running"})
    lock = RunFolder(job.folder).take_lock()
    yield job
    os.close(lock)


@pytest.fixture
def lost(db) -> Job:
    """Makes a job whose trainer is gone."""
    job = factories.make_job(status=Status.RUNNING, claimed_at=timezone.now())
    factories.make_run_events(job, factories.step_event(1))
    build_spec(job).save(RunFolder(job.folder).spec)
    return job


def look(job: Job) -> Job:
    Watcher().look()
    job.refresh_from_db()
    return job


def snapshot_event(step: int, best: bool) -> dict:
    return {
        "type": "snapshot",
        "step": step,
        "id": f"tiny:2026-11-22.snap-{step}",
        "path": f"snapshots/{step}",
        "sha256": "0" * 64,
        "num_bytes": 10,
        "best": best,
        "learned_loss": 2.5,
        "validation_loss": 2.25,
    }


# ----- events become rows


def test_events_become_rows_and_the_jobs_echo(running):
    factories.make_run_events(
        running,
        factories.step_event(1, learned_loss=4.0),
        factories.step_event(2, loss=1.5, learned_loss=2.0),
        {"type": "validation", "step": 2, "loss": 2.5, "learned_loss": 2.6},
    )
    look(running)
    assert list(running.events.values_list("seq", flat=True)) == [1, 2, 3, 4]
    assert (running.step, running.validation_loss) == (2, 2.5)
    # As the smoothed line of the chart ends: (0.8 * 3 + 1.5) / 1.8.
    assert running.train_loss == pytest.approx(2.1667, abs=1e-4)
    assert running.first_learned_loss == 4.0
    assert running.learned_loss == pytest.approx((0.8 * 4 + 2) / 1.8)


def test_no_event_is_lost_or_doubled_however_the_file_grows(running):
    path = running.folder / "events.jsonl"
    steps = [factories.step_event(step) for step in range(1, 9)]
    content = factories.make_run_events(running, *steps).read_bytes()
    path.write_bytes(b"")
    for end in range(0, len(content) + 97, 97):
        path.write_bytes(content[:end])
        look(running)
    assert list(running.events.values_list("seq", flat=True)) == list(range(1, 10))
    assert running.events_offset == len(content)


def test_a_report_read_twice_changes_nothing_the_second_time(running):
    factories.make_run_events(running, factories.step_event(1))
    report = LocalEngine().poll(running)
    ingest(running, report)
    ingest(running, report)
    assert Event.objects.count() == 2


def test_the_best_snapshot_takes_the_mark_from_the_one_before(running):
    factories.make_run_events(
        running, *(snapshot_event(step, step < 30) for step in (10, 20, 30))
    )
    look(running)
    marks = dict(Snapshot.objects.values_list("step", "best"))
    assert marks == {10: False, 20: True, 30: False}


def test_an_adapter_comes_with_the_digest_of_what_it_was_trained_on(running):
    running.method = "lora"
    running.save()
    event = snapshot_event(10, best=True) | {"base_sha256": "b" * 64}
    factories.make_run_events(running, event)
    look(running)
    source = model_source("tiny", Snapshot.objects.get())
    assert source.base_sha256 == "b" * 64
    assert source.adapter_path == str(running.folder / "snapshots/10")


def test_a_zero_character_in_a_completion_can_be_kept(running):
    completion = {"type": "completion", "step": 1, "text": "a\0b"}
    factories.make_run_events(running, completion)
    look(running)
    assert running.events.get(type="completion").data["text"] == "a\ufffdb"


def test_a_final_status_ends_the_job_and_the_next_one_starts(running, stand_in):
    stand_in("import time; time.sleep(60)")
    waiting = factories.make_job()
    look(waiting)
    assert waiting.status == Status.QUEUED
    factories.make_run_events(running, {"type": "status", "status": "succeeded"})
    look(running)
    look(waiting)
    run_tasks()
    assert (running.status, waiting.status) == (Status.SUCCEEDED, Status.STARTING)
    assert running.finished_at
    assert list(processes.find_trainers(waiting.folder))


@pytest.mark.parametrize(
    ("want", "status"),
    [
        (Job.Want.PAUSE, Status.PAUSED),
        (Job.Want.STOP, Status.CANCELLED),
        (Job.Want.RUN, Status.QUEUED),
    ],
)
def test_what_a_pause_means_is_what_people_want_by_then(running, want, status):
    Job.objects.update(want=want)
    factories.make_run_events(running, {"type": "status", "status": "paused"})
    factories.make_job(status=Status.STARTING, claimed_at=timezone.now())
    assert look(running).status == status


def test_a_pause_that_nobody_asked_for_stays_one(running):
    words = "There is too little room on the disk."
    status = {"status": "paused", "message": words, "forced": True}
    factories.make_run_events(running, {"type": "status", **status})
    job = look(running)
    assert (job.status, job.want, job.status_message) == ("paused", "pause", words)


# ----- trainers that are gone


def test_a_lost_trainer_is_started_again(lost, stand_in):
    stand_in("import time; time.sleep(60)")
    look(lost)
    assert (lost.status, lost.deaths) == (Status.STARTING, 1)
    run_tasks()
    assert list(processes.find_trainers(lost.folder))


def test_deaths_without_a_new_step_end_the_job_with_the_log(db, stand_in):
    stand_in("import sys; sys.exit('out of luck')")
    job = watch(factories.make_job(), lambda job: job.is_final)
    assert (job.status, job.deaths) == (Status.FAILED, 2)
    assert "ended 3 times before the first step" in job.status_message
    assert "out of luck" in job.status_message


def test_deaths_by_an_error_are_explained_by_it(db, stand_in):
    stand_in("{}['adapter']")
    job = watch(factories.make_job(), lambda job: job.is_final)
    assert (
        "ended 3 times before the first step with an error: KeyError: 'adapter'."
        in (job.status_message)
    )
    assert "LoRA" not in job.status_message


@pytest.mark.parametrize(
    ("log", "crash"),
    [
        ("", ""),
        ("2026-11-30 10:00:00 INFO step 3\nKilled\n", ""),
        (TRACEBACK + "ValueError: no digit\n", "ValueError: no digit"),
        (TRACEBACK + "torch.fx.TraceError: a: b\n", "torch.fx.TraceError: a: b"),
        (TRACEBACK + "KeyError\n", "KeyError"),
        (f"{TRACEBACK}KeyError: 1\n\nThen:\n\n{TRACEBACK}OSError: 2\n", "OSError: 2"),
        # It was handled: the trainer went on, and what ended it is not told.
        (TRACEBACK + "OSError: 2\n2026-11-30 10:00:01 INFO step 4\n", ""),
        (TRACEBACK + "RuntimeError: not enough memory: you tried\n", ""),
        (TRACEBACK + "MemoryError\n", ""),
    ],
)
def test_the_error_that_ended_a_trainer(lost, log, crash):
    (lost.folder / "trainer.log").write_text(log)
    assert crash_of(lost) == crash


def rows_after_a_second_death(job: Job) -> int:
    """Returns how many rows, of 8, go through at once after two deaths at one step."""
    numerics = Numerics(threads=2, dtype="float32", compile=False, micro_batch=8)
    RunFolder(job.folder).write_numerics(numerics)
    Job.objects.update(deaths=1, deaths_at_step=1)
    look(job)
    return RunFolder(job.folder).read_numerics().micro_batch


def test_a_second_death_by_an_error_changes_nothing(lost):
    (lost.folder / "trainer.log").write_text(TRACEBACK + "KeyError: 1\n")
    assert rows_after_a_second_death(lost) == 8
    assert "with an error (KeyError: 1); it is started again" in lost.status_message


def test_a_new_step_forgives_earlier_deaths(lost):
    Job.objects.update(deaths=2, deaths_at_step=0)
    look(lost)
    assert (lost.status, lost.deaths, lost.deaths_at_step) == (Status.STARTING, 1, 1)


def test_a_second_death_at_the_same_step_halves_the_micro_batch(lost):
    assert rows_after_a_second_death(lost) == 4
    assert "4 rows at a time" in lost.status_message


def test_the_last_events_of_a_gone_trainer_count(lost):
    factories.make_run_events(lost, {"type": "status", "status": "succeeded"})
    look(lost)
    assert (lost.status, lost.deaths) == (Status.SUCCEEDED, 0)


def test_a_launch_under_way_is_left_alone_and_a_dead_one_claimed_again(db):
    job = factories.make_job(status=Status.STARTING, claimed_at=timezone.now())
    look(job)
    assert "launch_job" not in "".join(run_tasks())
    old = timezone.now() - timedelta(seconds=61)
    Job.objects.update(claimed_at=old)
    look(job)
    assert job.claimed_at > old
    assert run_tasks() == ["jobs.tasks.launch_job"]


def test_two_watchers_that_see_one_death_count_it_once(lost):
    same = Job.objects.get(pk=lost.pk)
    assert recover(lost, launched=True)
    assert not recover(same, launched=True)
    lost.refresh_from_db()
    assert lost.deaths == 1


@pytest.mark.parametrize(
    ("want", "status"),
    [(Job.Want.STOP, Status.STARTING), (Job.Want.PAUSE, Status.PAUSED)],
)
def test_a_lost_trainer_is_started_again_for_a_last_snapshot_only(lost, want, status):
    Job.objects.update(want=want)
    assert look(lost).status == status


@pytest.mark.parametrize(
    ("want", "step", "status"),
    [
        (Job.Want.STOP, 5, Status.STARTING),
        (Job.Want.STOP, 0, Status.CANCELLED),
        (Job.Want.PAUSE, 5, Status.PAUSED),
    ],
)
def test_a_launch_goes_on_only_for_a_last_snapshot(db, want, step, status):
    claim = {"status": Status.STARTING, "claimed_at": timezone.now()}
    job = factories.make_job(want=want, step=step, **claim)
    assert look(job).status == status


def test_what_a_death_means_stays_readable_until_the_next_step(running):
    look(running)
    words = "The trainer ended at step 1; it is started again."
    Job.objects.update(status=Status.STARTING, status_message=words)
    watching.mark_resumed(Job.objects.get())
    factories.make_run_events(running, {"type": "log", "message": "Goes on"})
    assert look(running).status_message == words
    factories.make_run_events(running, factories.step_event(2))
    assert look(running).status_message == ""


# ----- trouble of one job, trouble of the database


def test_a_vanished_run_folder_fails_its_job_and_no_other(running, lost):
    shutil.rmtree(lost.folder)
    factories.make_run_events(running, factories.step_event(1))
    look(lost)
    look(running)
    assert lost.status == Status.FAILED
    assert "is gone" in lost.status_message
    assert running.step == 1


def test_an_event_that_cannot_be_understood_fails_its_job(running):
    factories.make_run_events(running, {"type": "step", "step": 1})
    look(running)
    assert running.status == Status.FAILED
    assert running.events.count() == 0


def test_a_job_is_failed_only_once_its_trainer_has_ended(running, monkeypatch):
    def killed(self, job, force):
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalEngine, "end", killed)
    with pytest.raises(KeyboardInterrupt):
        watching.give_up(running, "words")
    running.refresh_from_db()
    assert running.status == Status.RUNNING


def test_a_job_of_an_engine_that_is_gone_fails_with_words(running):
    Job.objects.update(engine="moon")
    look(running)
    assert running.status == Status.FAILED
    assert "no engine moon" in running.status_message


def test_a_full_disk_is_no_reason_to_fail(running, monkeypatch):
    def full(self, job):
        raise OSError("No space left on device")

    monkeypatch.setattr(LocalEngine, "control", full)
    assert look(running).status == Status.RUNNING


def test_the_watcher_goes_on_when_the_database_comes_back(monkeypatch, caplog):
    watcher = Watcher()
    answers = [OperationalError("gone"), OperationalError("gone"), None]

    def look():
        if not answers:
            watcher.stop()
        elif error := answers.pop(0):
            raise error

    monkeypatch.setattr(watcher, "look", look)
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(watching, "MAX_BACK_OFF_SECONDS", 0.01)
    monkeypatch.setattr(watching.connections, "close_all", lambda: None)
    caplog.set_level("INFO")
    watcher.run()
    assert [r.message.split(":")[0] for r in caplog.records] == [
        "The database does not answer",
        "The watcher works again",
    ]


# ----- chores


def test_the_watcher_beats_and_asks_the_worker_to_beat(db):
    Watcher().look()
    assert Heartbeat.objects.filter(name="watcher").exists()
    assert run_tasks() == ["jobs.tasks.beat_worker"]
    assert Heartbeat.objects.filter(name="worker").exists()


def test_requests_do_not_pile_up_while_the_worker_is_down(db):
    for _ in range(3):
        Watcher().look()
    assert OrmQ.objects.count() == 1


def test_a_preparation_that_died_is_asked_for_again(db):
    job = factories.make_job(status=Status.VALIDATING)
    old = timezone.now() - timedelta(seconds=61)
    Job.objects.update(created_at=old, claimed_at=old)
    watching.sweep()
    assert run_tasks()[0] == "jobs.tasks.prepare_job"
    job.refresh_from_db()
    assert job.status == Status.STARTING


@pytest.mark.parametrize(
    ("status", "stays"),
    [
        (Status.STARTING, True),
        (Status.PAUSED, False),
        (Status.CANCELLED, False),
        (None, False),
    ],
)
def test_a_trainer_is_ended_unless_its_job_is_live(db, stand_in, status, stays):
    stand_in("import time; time.sleep(60)")
    job = factories.make_job(status=Status.STARTING, claimed_at=timezone.now())
    LocalEngine().start(job, build_spec(job))
    old = timezone.now() - timedelta(seconds=40)
    Job.objects.update(status=status or Status.FAILED, finished_at=old)
    if status is None:
        Job.objects.all().delete()
    watching.sweep()
    if stays:
        time.sleep(0.3)
        assert list(processes.find_trainers(job.folder))
    else:
        gone = lambda: not list(processes.find_trainers(job.folder))  # noqa: E731
        wait_for(gone, 5, "the trainer is ended")


# ----- the real trainer


def kill(job: Job, number: int) -> None:
    for process in processes.find_trainers(job.folder):
        os.killpg(process.pid, number)


def losses(job: Job) -> list[tuple[int, float]]:
    steps = Event.objects.filter(job=job, type="step")
    return [(step, data["loss"]) for step, data in steps.values_list("step", "data")]


def make_real_job(**fields) -> Job:
    fields = {"completions_every": 0, "snapshots_every": 1000, "prompts": [], **fields}
    return factories.make_job(factories.make_dataset(), **fields)


def test_a_job_killed_in_the_middle_goes_on_and_succeeds(db):
    calm = watch(make_real_job(uid="ftjob-1", epochs=15), lambda job: job.is_final)
    wild = make_real_job(uid="ftjob-2", epochs=15)
    watch(wild, lambda job: list(processes.find_trainers(job.folder)))
    kill(wild, signal.SIGKILL)
    watch(wild, lambda job: job.step >= 5)
    kill(wild, signal.SIGTERM)
    watch(wild, lambda job: job.is_final)
    assert (calm.status, wild.status) == (Status.SUCCEEDED, Status.SUCCEEDED)
    assert losses(wild) == losses(calm)
    assert [step for step, _ in losses(wild)] == list(range(1, calm.step + 1))


def test_a_job_pauses_goes_on_and_is_stopped_in_its_pause(member, db):
    job = watch(make_real_job(epochs=1000), lambda job: job.step >= 3)
    services.pause_job(member=member, job=job)
    watch(job, lambda job: job.status == Status.PAUSED)
    services.resume_job(member=member, job=job)
    paused_at = job.step
    watch(job, lambda job: job.step > paused_at)
    assert (job.deaths, job.status) == (0, Status.RUNNING)
    services.request_snapshot(member=member, job=job)
    watch(job, lambda job: job.snapshots.exists())
    services.pause_job(member=member, job=job)
    watch(job, lambda job: job.status == Status.PAUSED)
    paused_at = job.step
    services.stop_job(member=member, job=job)
    assert not job.is_final
    watch(job, lambda job: job.is_final)
    assert (job.status, job.step) == (Status.CANCELLED, paused_at)
    assert job.snapshots.first().step == paused_at
    assert (job.snapshots.first().folder / "model.safetensors").is_file()
