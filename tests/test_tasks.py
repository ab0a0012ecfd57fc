import os
import subprocess
import sys

import pytest
from django.conf import settings
from django.db import OperationalError

from jobs import tasks
from jobs.models import Heartbeat, Job
from jobs.new_job import preparation
from jobs.services import launching
from tests.support import factories

Status = Job.Status


@pytest.fixture
def started(monkeypatch) -> list[int]:
    """Collects the jobs that the engine was asked to start; no trainer starts."""
    jobs: list[int] = []
    monkeypatch.setattr(
        "jobs.engines.local.LocalEngine.start",
        lambda self, job, spec: jobs.append(job.pk),
    )
    return jobs


@pytest.fixture
def new_job(db) -> Job:
    return factories.make_job(status=Status.VALIDATING, prompts=[], total_steps=0)


def test_preparing_makes_the_plan_and_starts_the_job(new_job, started):
    tasks.prepare_job(new_job.pk)
    new_job.refresh_from_db()
    assert new_job.status == Status.STARTING
    assert new_job.total_steps == new_job.plan["total_steps"] > 0
    assert started == [new_job.pk]


def test_a_second_delivery_changes_nothing(new_job, started):
    tasks.prepare_job(new_job.pk)
    before = Job.objects.values().get()
    tasks.prepare_job(new_job.pk)
    assert Job.objects.values().get() == before
    assert started == [new_job.pk]


def test_a_preparation_in_progress_is_left_alone(new_job):
    assert preparation.claim(new_job.pk)
    assert preparation.prepare(new_job.pk) is False


def test_prompts_come_from_the_first_examples(new_job):
    preparation.prepare(new_job.pk)
    new_job.refresh_from_db()
    assert new_job.prompts == [
        "The capital of France is ",
        "The capital of Kenya is ",
        "The capital of Chile is ",
    ]


def test_prompts_come_from_the_validation_examples_when_it_has_some(new_job):
    examples = [[("What is new?", 0.0), (" This.", 1.0)]] * 2
    new_job.validation_version = factories.make_dataset(examples=examples)
    assert preparation.default_prompts(new_job) == ["What is new?"]


def test_prompts_that_no_database_keeps_are_left_out(db):
    version = factories.make_dataset(
        examples=[[("\0", 0), ("a", 1)], [("Q", 0), ("b", 1)]]
    )
    new_job = factories.make_job(version, prompts=[])
    assert preparation.default_prompts(new_job) == ["Q"]


def test_examples_of_one_segment_give_the_empty_prompt(db):
    version = factories.make_dataset(examples=[[("A story.", 1.0)]])
    job = factories.make_job(version, status=Status.VALIDATING, prompts=[])
    preparation.prepare(job.pk)
    job.refresh_from_db()
    assert job.prompts == [""]


def test_all_weights_zero_fails_with_words(db):
    version = factories.make_dataset(examples=[[("Read", 0.0), (" only", 0.0)]])
    job = factories.make_job(version, status=Status.VALIDATING)
    preparation.prepare(job.pk)
    job.refresh_from_db()
    assert job.status == Status.FAILED
    assert "Nothing would be learned" in job.status_message


def test_a_broken_dataset_fails_its_job(new_job):
    new_job.dataset_version.examples_path.write_text("no json\n")
    preparation.prepare(new_job.pk)
    new_job.refresh_from_db()
    assert new_job.status == Status.FAILED
    assert "could not be prepared" in new_job.status_message


def test_a_job_stopped_while_it_was_prepared_stays_stopped(new_job, monkeypatch):
    def stop(job):
        Job.objects.update(status=Status.CANCELLED)
        return ["x"]

    monkeypatch.setattr(preparation, "default_prompts", stop)
    assert preparation.prepare(new_job.pk) is False
    new_job.refresh_from_db()
    assert new_job.status == Status.CANCELLED


def test_jobs_start_one_after_another_oldest_first(db, started):
    first, second = factories.make_job(), factories.make_job()
    tasks.launch_queued("local")
    assert started == [first.pk]
    Job.objects.filter(pk=first.pk).update(status=Status.SUCCEEDED)
    tasks.launch_queued("local")
    assert started == [first.pk, second.pk]


def test_a_database_that_is_away_does_not_fail_the_job(new_job, monkeypatch):
    def away(job):
        raise OperationalError("database is locked")

    monkeypatch.setattr(preparation, "default_prompts", away)
    with pytest.raises(OperationalError):
        preparation.prepare(new_job.pk)
    new_job.refresh_from_db()
    assert new_job.status == Status.VALIDATING


def test_a_job_that_is_not_claimed_is_not_launched(db, started):
    for status in (Status.QUEUED, Status.RUNNING, Status.CANCELLED):
        tasks.launch_job(factories.make_job(status=status).pk)
    assert started == []


def test_a_start_that_breaks_fails_the_job(db, monkeypatch):
    def break_down(self, job, spec):
        raise PermissionError("no such luck")

    monkeypatch.setattr("jobs.engines.local.LocalEngine.start", break_down)
    job = factories.make_job()
    launching.launch_queued("local")
    job.refresh_from_db()
    assert job.status == Status.FAILED
    assert "no such luck" in job.status_message


# On a real database file: the tests' own lies in memory, where locks differ.
CLAIM_AT_ONCE = """
import multiprocessing, django
django.setup()
from django.core.management import call_command
from django.db import connection
from jobs.services.launching import claim_next
from tests.support import factories

def claim(number):
    barrier.wait()
    return claim_next("local")

call_command("migrate", verbosity=0)
for _ in range(4):
    factories.make_job()
connection.close()
barrier = multiprocessing.get_context("fork").Barrier(4)
with multiprocessing.get_context("fork").Pool(4) as pool:
    print(sum(found is not None for found in pool.map(claim, range(4), 1)))
"""


def test_of_several_processes_that_claim_at_once_one_wins(tmp_path):
    environment = {
        **os.environ,
        "FINETUNE_DATA_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "finetune_site.settings",
    }
    environment.pop("DATABASE_URL", None)
    argv = [sys.executable, "-c", CLAIM_AT_ONCE]
    printed = subprocess.check_output(argv, env=environment, cwd=settings.BASE_DIR)
    assert printed.split()[-1] == b"1"


def test_the_worker_beats_in_one_row(db):
    tasks.beat_worker()
    first = Heartbeat.objects.get(name="worker").at
    tasks.beat_worker()
    assert Heartbeat.objects.get(name="worker").at > first
