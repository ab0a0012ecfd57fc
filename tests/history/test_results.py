"""The table of a job's losses."""

import pytest
from django.utils import timezone

from jobs.history import results
from jobs.history.results import result_bytes, result_parts
from jobs.models import Event, Job
from tests.support import factories

pytestmark = pytest.mark.django_db


def add_event(job, seq, kind, step, **data):
    Event.objects.create(
        job=job, seq=seq, type=kind, step=step, data=data, time=timezone.now()
    )


def table(job):
    return b"".join(result_parts(job)).decode().splitlines()


@pytest.fixture
def job(db):
    job = factories.make_job(status=Job.Status.SUCCEEDED, step=3)
    for step in (1, 2, 3):
        add_event(job, step * 2, "step", step, loss=4 - step, accuracy=step / 10)
    add_event(job, 5, "validation", 2, loss=2.5, accuracy=0.25)
    return job


def test_a_row_a_step_with_the_validation_where_there_was_one(job):
    assert table(job) == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,3,0.1,,",
        "2,2,0.2,2.5,0.25",
        "3,1,0.3,,",
    ]


def test_steps_are_read_a_few_at_a_time(job, monkeypatch):
    whole = table(job)
    monkeypatch.setattr(results, "STEPS_AT_ONCE", 2)
    assert len(list(result_parts(job))) == 3
    assert table(job) == whole


def test_its_bytes_are_counted_once(job, django_assert_num_queries):
    assert result_bytes(job) == len(b"".join(result_parts(job)))
    with django_assert_num_queries(1):
        assert result_bytes(Job.objects.get()) > 0
