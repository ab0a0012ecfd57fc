"""A long count of tokens: what people see of it, and what it leaves alone."""

from datetime import timedelta

import pytest
from django.utils import timezone

from jobs import tasks
from jobs.live import page
from jobs.models import Heartbeat, Job
from jobs.new_job import preparation
from jobs.services import counting, heartbeats
from jobs.trainer.rows import token_cache
from tests.support import factories

EXAMPLES = [[("The capital of France is ", 0.0), ("Paris", 1.0)]] * 40


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Reports at every batch, of which the examples make several."""
    monkeypatch.setattr(token_cache, "EXAMPLES_PER_BATCH", 10)
    monkeypatch.setattr(counting, "REPORT_SECONDS", 0)
    monkeypatch.setattr(heartbeats, "PULSE_SECONDS", 0)


@pytest.fixture
def job(db) -> Job:
    version = factories.make_dataset(examples=EXAMPLES)
    return factories.make_job(version, status="validating", total_steps=0)


@pytest.fixture
def seen(job, monkeypatch) -> list[Job]:
    """Collects the job's row after every batch."""
    rows: list[Job] = []
    counted = counting.CountProgress.counted

    def look(self, num_examples):
        counted(self, num_examples)
        rows.append(Job.objects.get(pk=job.pk))

    monkeypatch.setattr(counting.CountProgress, "counted", look)
    return rows


def test_the_row_says_how_far_the_count_is(job, seen):
    preparation.prepare(job.pk)
    assert [row.examples_counted for row in seen] == [10, 20, 30, 40]
    assert {row.examples_to_count for row in seen} == {40}
    assert seen[0].counting_seconds_left > seen[-1].counting_seconds_left == 0


def test_a_job_that_waits_for_the_forms_count_says_it_too(job, seen):
    tasks.count_tokens(job.dataset_version_id, "tiny")
    assert [row.examples_counted for row in seen] == [10, 20, 30, 40]
    assert {row.claimed_at for row in seen} == {None}


def test_the_validation_dataset_is_counted_after_the_other(job, seen):
    validation = factories.make_dataset(examples=EXAMPLES[:20])
    Job.objects.update(validation_version=validation)
    preparation.prepare(job.pk)
    assert [row.examples_counted for row in seen] == [10, 20, 30, 40, 10, 20]
    assert [row.examples_to_count for row in seen] == [40] * 4 + [20] * 2


def test_what_is_counted_already_is_not_counted_again(job, seen):
    tasks.count_tokens(job.dataset_version_id, "tiny")
    seen.clear()
    assert preparation.prepare(job.pk)
    assert seen == []


def test_jobs_of_another_dataset_hear_nothing(job, seen):
    other = factories.make_dataset(examples=EXAMPLES)
    tasks.count_tokens(other.pk, "tiny")
    assert {row.examples_counted for row in seen} == {0}


def test_the_page_shows_percent_and_time_left(job):
    job.examples_counted, job.examples_to_count = 25_000, 100_000
    job.counting_seconds_left = 75
    progress = page.render_parts(job, can_work=True)["progress"]
    assert 'max="100000" value="25000"' in progress
    assert "25\xa0%, 25,000 of 100,000 examples" in progress
    assert "1:15 left" in progress


def test_the_list_shows_it_too(client, member, job):
    client.force_login(member)
    Job.objects.update(
        examples_counted=25_000, examples_to_count=100_000, counting_seconds_left=75
    )
    page = client.get("/jobs/").content.decode()
    assert 'max="100000" value="25000"' in page
    assert "Counting tokens: 25\xa0%, 1:15 left" in page


def test_a_count_keeps_its_claim(job, seen):
    long_ago = timezone.now() - timedelta(seconds=1)
    preparation.prepare(job.pk)
    assert all(row.claimed_at > long_ago for row in seen)


def test_a_count_that_died_starts_again(job):
    died = timezone.now() - timedelta(seconds=preparation.CLAIM_SECONDS + 1)
    Job.objects.update(claimed_at=died, examples_counted=30, examples_to_count=40)
    assert preparation.prepare(job.pk)


def test_a_claim_taken_over_forgets_the_count_that_died(job):
    died = timezone.now() - timedelta(seconds=preparation.CLAIM_SECONDS + 1)
    Job.objects.update(
        claimed_at=died,
        examples_counted=30,
        examples_to_count=40,
        counting_seconds_left=9,
    )
    claimed = preparation.claim(job.pk)
    assert (claimed.examples_counted, claimed.examples_to_count) == (0, 0)
    assert claimed.counting_seconds_left is None


def test_the_count_of_a_stopped_job_ends(job, monkeypatch):
    monkeypatch.setattr(heartbeats.Pulse, "__call__", lambda *_: stop())

    def stop():
        Job.objects.update(status="cancelled")

    assert preparation.prepare(job.pk) is False
    assert not list(job.dataset_version.folder.glob("tokens/*/facts.json"))


def test_a_worker_that_counts_beats(job):
    preparation.prepare(job.pk)
    assert Heartbeat.objects.filter(name="worker").exists()


def test_a_worker_that_counts_for_the_form_beats(job):
    tasks.count_tokens(job.dataset_version_id, "tiny")
    assert Heartbeat.objects.filter(name="worker").exists()
