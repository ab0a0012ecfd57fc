"""What the site writes for a trainer."""

import pytest

from jobs.models import Job
from jobs.services.specs import build_spec
from jobs.trainer.rows.plan import make_plan
from tests.support import factories


def test_without_an_earlier_job_no_time_is_promised(db):
    spec = build_spec(factories.make_job())
    assert make_plan(spec)["seconds"] is None


def test_the_time_comes_from_the_last_job_like_it(db):
    for speed in (10.0, 500.0):
        factories.make_job(status=Job.Status.SUCCEEDED, tokens_per_second=speed)
    job = factories.make_job()
    plan = make_plan(build_spec(job))
    assert plan["seconds"] == pytest.approx(plan["tokens"] * job.epochs / 500)


@pytest.mark.parametrize(
    "other", [{"engine": "elsewhere"}, {"base_model": "ada"}, {"method": "lora"}]
)
def test_a_job_of_another_kind_says_nothing_about_this_one(db, other):
    factories.make_job(tokens_per_second=10.0, **other)
    assert build_spec(factories.make_job()).tokens_per_second is None
