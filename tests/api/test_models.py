"""Models and snapshots of the API."""

import pytest

from jobs.models import Job, Snapshot
from jobs.selectors.model_names import find_model, fine_tuned_model
from tests.support import factories
from tests.support.api_client import ApiClient

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(member):
    return ApiClient(member)


@pytest.fixture
def job(db):
    job = factories.make_job(
        name="Jokes of May", suffix="jokes", status=Job.Status.SUCCEEDED
    )
    for step in (20, 40):
        factories.make_snapshot(job, step, best=step == 20)
    return job


def ids(answer):
    return [item["id"] for item in answer.json()["data"]]


def folders(job):
    return [snapshot.folder.exists() for snapshot in job.snapshots.all()]


def test_what_is_ready_here_and_what_jobs_made_is_listed(api, job):
    factories.make_job(status=Job.Status.SUCCEEDED)
    factories.make_snapshot(factories.make_job(status=Job.Status.RUNNING))
    assert ids(api.get("/models")) == ["tiny", fine_tuned_model(job)]


def test_a_model_is_described_as_the_clients_expect(api, job):
    name = fine_tuned_model(job)
    shown = api.get(f"/models/{name}").json()
    assert (shown["id"], shown["object"], shown["root"]) == (name, "model", "tiny")
    assert shown["parent"] == shown["base_model"] == "tiny"
    assert isinstance(shown["created"], int)


@pytest.mark.parametrize("name", ["tiny", "Tiny"])
def test_a_base_model_goes_by_its_name(api, name):
    assert api.get(f"/models/{name}").json()["id"] == "tiny"


def test_a_snapshot_is_a_model(api, job):
    uid = job.snapshots.last().uid
    assert api.get(f"/models/{uid}").json()["id"] == uid


def test_latest_answers_with_the_snapshot_that_it_is(api, job):
    last = job.snapshots.get(step=40)
    assert api.get("/models/Jokes:latest").json()["id"] == last.uid


def test_spaces_may_be_plus_signs_as_old_clients_write_them(api, job):
    last = job.snapshots.get(step=40)
    assert api.get("/models/Jokes+of+May:latest").json()["id"] == last.uid


@pytest.mark.parametrize("name", ["nothing", "ada", "ft:tiny::x:y", "a%00b", "a/b"])
def test_an_unknown_model_is_not_found(api, name):
    answer = api.get(f"/models/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_a_fine_tuned_model_goes_with_all_its_snapshots(api, job):
    name, kept = fine_tuned_model(job), list(job.snapshots.all())
    assert api.delete(f"/models/{name}").json() == {
        "id": name,
        "object": "model",
        "deleted": True,
    }
    assert not job.snapshots.exists()
    assert not any(snapshot.folder.exists() for snapshot in kept)
    assert api.get(f"/models/{name}").status_code == 404


def test_a_snapshot_goes_alone(api, job):
    first, last = job.snapshots.order_by("step")
    assert api.delete(f"/models/{first.uid}").json()["deleted"]
    assert list(job.snapshots.all()) == [last]
    assert (first.folder.exists(), last.folder.exists()) == (False, True)


def test_a_base_model_stays(api):
    answer = api.delete("/models/tiny")
    assert answer.status_code == 403
    assert "Models page" in answer.json()["error"]["message"]


def test_a_name_that_moves_is_not_deleted(api, job):
    assert api.delete("/models/jokes:latest").status_code == 400
    assert job.snapshots.count() == 2


@pytest.mark.parametrize("name", ["fine-tuned", "snapshot"])
def test_what_another_job_was_trained_from_stays(api, job, name):
    first = job.snapshots.get(step=20)
    child = factories.make_job(parent_snapshot=first, name="Better jokes")
    name = first.uid if name == "snapshot" else fine_tuned_model(job)
    answer = api.delete(f"/models/{name}")
    assert answer.status_code == 400
    assert "Better jokes was trained from it" in answer.json()["error"]["message"]
    assert folders(job) == [True, True]
    assert child.parent_snapshot == first


def test_snapshots_of_a_job_that_goes_on_stay(api):
    snapshot = factories.make_snapshot(factories.make_job(status=Job.Status.RUNNING))
    assert api.delete(f"/models/{snapshot.uid}").status_code == 400
    assert Snapshot.objects.get() == snapshot


def test_a_viewer_deletes_nothing(viewer, job):
    api = ApiClient(viewer)
    name = fine_tuned_model(job)
    for path in (f"/models/{name}", f"/snapshots/{job.snapshots.first().uid}"):
        assert api.delete(path).status_code == 403


def test_snapshots_are_listed_newest_first(api, job):
    other = factories.make_snapshot(factories.make_job())
    uids = [snapshot.uid for snapshot in job.snapshots.order_by("-step")]
    assert ids(api.get("/snapshots")) == [other.uid, *uids]
    assert ids(api.get("/snapshots", job=job.uid)) == uids
    assert ids(api.get("/snapshots", job="ftjob-none")) == []


def test_a_snapshot_is_described(api, job):
    snapshot = job.snapshots.get(step=20)
    child = factories.make_job(parent_snapshot=snapshot)
    uid = factories.make_snapshot(child).uid
    shown = api.get(f"/snapshots/{uid}").json()
    assert (shown["job"], shown["parent"]) == (child.uid, snapshot.uid)
    assert (shown["step"], shown["best"], shown["engine"]) == (20, False, "local")


def test_a_snapshot_is_deleted_by_its_id(api, job):
    uid = job.snapshots.get(step=20).uid
    assert api.delete(f"/snapshots/{uid}").json()["deleted"]
    answer = api.get(f"/snapshots/{uid}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_every_tag_means_what_it_says(api, job):
    again = factories.make_job(name="jokes OF may", suffix="")
    factories.make_snapshot(again, 20)
    tags = api.get("/tags").json()["data"]
    assert {tag["id"] for tag in tags} == {
        "jokes:latest",
        "jokes OF may:latest",
        "tiny:latest",
    }
    for tag in tags:
        assert find_model(tag["id"]).snapshot.uid == tag["model"]


def test_lists_take_few_queries(api, job, django_assert_max_num_queries):
    for _ in range(3):
        other = factories.make_job(status=Job.Status.SUCCEEDED)
        factories.make_snapshot(other)
    api.get("/models")
    for path in ("/models", "/snapshots"):
        with django_assert_max_num_queries(2):
            assert api.get(path).status_code == 200
