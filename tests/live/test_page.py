"""What an update of the live page holds, and what it costs."""

import pytest
from django.utils import timezone

from jobs.charts import sparks
from jobs.history import film
from jobs.live import page
from jobs.models import EngineSetting, Job
from tests.support import factories


@pytest.fixture
def job(db) -> Job:
    return factories.make_job(status="running", total_steps=1000)


def add_event(job: Job, type_: str, step: int, **data) -> None:
    job.last_seq += 1
    job.step = step
    job.save()
    job.events.create(
        seq=job.last_seq, time=timezone.now(), type=type_, step=step, data=data
    )


def add_snapshot(job: Job, step: int, best: bool) -> None:
    job.snapshots.update(best=False)
    factories.make_snapshot(job, step, best=best)
    add_event(job, "snapshot", step, best=best)


def heads(job: Job, after: int) -> list[int]:
    found = page.update(job, after=after, can_work=True)["film"]
    return [head["step"] for head in found["heads"]] if found else []


def test_a_new_snapshot_changes_its_head_and_that_of_the_former_best(job):
    for step, best in [(10, True), (20, True), (30, False), (40, True)]:
        add_snapshot(job, step, best)
    assert heads(job, after=3) == [20, 40]
    assert heads(job, after=4) == []


def test_a_page_that_knows_nothing_gets_the_newest_columns(job):
    for step in range(70):
        add_event(
            job, "completion", step, prompt_index=0, prompt="Hi", index=0, text="x"
        )
    steps = [cell.step for cell in film.read_cells(job, 0)]
    assert steps == list(range(70 - film.MAX_NEWEST_COLUMNS, 70))


def test_sparklines_are_read_again_when_a_point_is_new(job, monkeypatch):
    read = []

    def count(job, *more):
        read.append(job.step)
        return dict.fromkeys(("loss", "tokens_per_second", "memory_bytes"), [])

    monkeypatch.setattr(sparks, "read_points", count)
    for step in range(390, 401):
        add_event(job, "step", step, loss=3.0)
        page.update(job, after=job.last_seq, can_work=True)
    assert read == [390, 400]


def test_a_job_whose_engine_is_away_promises_no_time(job):
    EngineSetting.objects.create(name="lab", kind="remote", trouble="No answer.")
    job.engine, job.status, job.step, job.total_steps = "lab", "running", 40, 90
    job.seconds_per_step = 2.0
    parts = page.render_parts(job, can_work=True)
    assert "Waiting for lab" in parts["status"]
    assert "lab is away" in parts["notice"]
    assert " left" not in parts["progress"]


def test_a_failure_for_want_of_weights_leads_to_the_dataset(job):
    version = job.dataset_version
    job.status = Job.Status.FAILED
    where = f'href="/datasets/{version.dataset_id}/?version={version.number}"'
    assert where not in page.render_parts(job, can_work=True)["notice"]
    version.shares = [{"weight": 0, "characters": 9}]
    assert where in page.render_parts(job, can_work=True)["notice"]
