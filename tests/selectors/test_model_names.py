"""Which model a client means."""

import pytest

from jobs.models import Job
from jobs.selectors.model_names import (
    UnknownModelError,
    find_model,
    fine_tuned_model,
)
from tests.support import factories

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", ["tiny", "Tiny", "TINY"])
def test_base_model_in_any_case(name):
    choice = find_model(name)
    assert (choice.name, choice.base_model, choice.snapshot) == (name, "tiny", None)


def test_base_model_that_is_not_here_is_known():
    assert find_model("Ada").base_model == "ada"


def test_snapshot_by_its_uid():
    snapshot = factories.make_snapshot(factories.make_job())
    assert find_model(snapshot.uid).snapshot == snapshot


def test_fine_tuned_model_is_the_best_snapshot():
    job = factories.make_job(suffix="my jokes: two")
    best, _ = (factories.make_snapshot(job, n, best=n == 20) for n in (20, 40))
    assert fine_tuned_model(job) == f"ft:tiny::my jokes: two:{job.uid[6:]}"
    assert find_model(fine_tuned_model(job)).snapshot == best


def test_fine_tuned_model_without_a_best_is_the_last():
    job = factories.make_job()
    _, last = (factories.make_snapshot(job, n) for n in (20, 40))
    assert find_model(fine_tuned_model(job)).snapshot == last


def test_fine_tuned_model_of_another_suffix_is_unknown():
    job = factories.make_job(suffix="a")
    factories.make_snapshot(job)
    with pytest.raises(UnknownModelError):
        find_model(fine_tuned_model(job).replace("::a:", "::b:"))


@pytest.mark.parametrize("name", ["Jokes:latest", "jokes:latest", "JOKES:LATEST"])
def test_latest_is_the_last_snapshot_of_the_newest_job(name):
    old, new, empty = (factories.make_job(name="Jokes") for _ in range(3))
    factories.make_snapshot(old, 80)
    factories.make_snapshot(new, 20, best=True)
    last = factories.make_snapshot(new, 40)
    assert find_model(name).snapshot == last


def test_latest_of_a_suffix_comes_before_a_name():
    by_suffix, by_name = (
        factories.make_job(suffix="jokes"),
        factories.make_job(name="jokes"),
    )
    snapshot, _ = factories.make_snapshot(by_suffix), factories.make_snapshot(by_name)
    assert find_model("jokes:latest").snapshot == snapshot


def test_latest_of_a_base_model_is_the_newest_trained_from_it():
    factories.make_snapshot(factories.make_job())
    newest = factories.make_snapshot(factories.make_job())
    assert find_model("Tiny:latest").snapshot == newest


@pytest.mark.parametrize("name", ["tiny:latest", "jokes:latest", "mine:latest"])
def test_latest_of_an_engine_is_the_latest_there(name):
    here, there = [
        factories.make_snapshot(
            factories.make_job(name="jokes", suffix="mine", engine=engine)
        )
        for engine in ("local", "second")
    ]
    assert find_model(name).snapshot == there
    assert find_model(name, engine="local").snapshot == here


def test_latest_of_an_engine_that_has_none_is_the_latest_of_all():
    snapshot = factories.make_snapshot(factories.make_job(name="jokes"))
    assert find_model("jokes:latest", engine="second").snapshot == snapshot


@pytest.mark.parametrize(
    "name",
    ["", "none", "none:latest", ":latest", "ft:", "a\0b", "\ud800", "x" * 5000, "../x"],
)
def test_other_names_are_unknown(name):
    factories.make_snapshot(factories.make_job(name="job"))
    with pytest.raises(UnknownModelError) as caught:
        find_model(name)
    assert caught.value.field == "model"


def test_asking_needs_no_more_queries(django_assert_num_queries):
    snapshot = factories.make_snapshot(factories.make_job())
    with django_assert_num_queries(1):
        job = find_model(snapshot.uid).snapshot.job
        assert not job.dataset_version.from_chats
        assert job.parent_snapshot is None
        assert job.status == Job.Status.QUEUED
