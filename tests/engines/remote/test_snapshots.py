"""Snapshots that lie on another server."""

import pytest
from django.utils import timezone

from finetune_site.common.errors import UserError
from jobs.engines.registry import LOCAL, engine_that_has, get_engine
from jobs.models import EngineSetting, Job, Snapshot
from jobs.services import jobs as services
from tests.engines.remote.looking import look
from tests.support import factories
from tests.support.factories import create_job

Status = Job.Status
SNAPSHOT = {
    "step": 1,
    "id": "tiny:2026-11-23.snap-" + "1" * 24,
    "path": "snapshots/1",
    "sha256": "0" * 64,
    "num_bytes": 10,
    "best": True,
    "learned_loss": 2.5,
    "validation_loss": None,
}


@pytest.fixture
def snapshot(far, loop, running) -> Snapshot:
    far.add("snapshot", **SNAPSHOT)
    far.job["status"] = "succeeded"
    far.add("status", status="succeeded", message="")
    look(loop, running)
    return Snapshot.objects.get()


def test_a_far_snapshot_is_a_row_without_files(snapshot, running):
    assert snapshot.job == running
    assert not snapshot.is_here
    assert not running.folder.exists()


@pytest.mark.parametrize("page", ["/snapshots/", "/playground/", "/jobs/", "/"])
def test_pages_cope_with_it(client, member, snapshot, page):
    client.force_login(member)
    assert client.get(page).status_code == 200


def test_the_jobs_pages_cope_with_it(client, member, snapshot):
    client.force_login(member)
    page = client.get(f"/jobs/{snapshot.job_id}/")
    assert "<span>lab</span>" in page.content.decode()
    settings = client.get(f"/jobs/{snapshot.job_id}/settings/")
    assert "The engine lab keeps its own copy" in settings.content.decode()


def test_training_further_stays_on_its_engine(far, loop, snapshot, member):
    far.models.add(snapshot.uid)
    further = {
        "member": member,
        "name": "",
        "dataset_version": snapshot.job.dataset_version,
        "parent_snapshot": snapshot,
    }
    with pytest.raises(UserError, match="so only lab can train it further"):
        create_job(engine="local", **further)
    job = create_job(engine="lab", **further)
    Job.objects.filter(pk=job.pk).update(status=Status.QUEUED)
    look(loop, job)
    assert far.jobs[job.far_uid]["model"] == snapshot.uid


def test_a_snapshot_of_this_machine_is_not_trained_elsewhere(lab, member):
    snapshot = factories.make_snapshot(factories.make_job())
    with pytest.raises(UserError, match="so only local can train it further"):
        create_job(
            member=member,
            name="",
            dataset_version=snapshot.job.dataset_version,
            parent_snapshot=snapshot,
            engine="lab",
        )


def test_a_job_that_may_go_on_there_is_not_said_to_have_ended(
    client, member, loop, running
):
    Job.objects.update(status=Status.FAILED, finished_at=timezone.now())
    client.force_login(member)
    page = client.get(f"/jobs/{running.pk}/settings/").content.decode()
    assert "This site has not heard that the job ended there" in page
    deleted = client.post(f"/jobs/{running.pk}/delete/", follow=True)
    assert "only people there can stop it" in deleted.content.decode()


def test_deleting_the_job_leaves_the_far_one(far, snapshot, member):
    services.delete_job(member=member, job=snapshot.job)
    assert Job.objects.count() == 0
    assert len(far.jobs) == 1


def test_a_local_engine_by_another_name_is_a_queue_of_its_own(db):
    EngineSetting.objects.create(name="second", kind=EngineSetting.Kind.LOCAL)
    engine = get_engine("second")
    assert (engine.name, engine.is_remote) == ("second", False)


# ----- engines whose name another one had


@pytest.fixture
def kept(db) -> Snapshot:
    """Makes a snapshot of a queue of this machine that was removed."""
    return factories.make_snapshot(factories.make_job(engine="lab"))


def further(snapshot: Snapshot, member, engine: str) -> Job:
    return create_job(
        member=member,
        name="",
        dataset_version=snapshot.job.dataset_version,
        parent_snapshot=snapshot,
        engine=engine,
    )


def test_a_removed_queues_snapshots_stay_askable_here(kept, member):
    assert engine_that_has(kept) is LOCAL
    assert further(kept, member, "local").engine == "local"


def test_a_server_of_a_removed_queues_name_gets_none_of_its_snapshots(
    kept, lab, member
):
    assert engine_that_has(kept) is LOCAL
    with pytest.raises(UserError, match="so only local can train it further"):
        further(kept, member, "lab")


def test_a_queue_of_a_removed_servers_name_opens_none_of_its_snapshots(
    snapshot, member
):
    EngineSetting.objects.update(kind=EngineSetting.Kind.LOCAL)
    with pytest.raises(UserError, match="lies on the engine lab, which was removed"):
        engine_that_has(snapshot)
    with pytest.raises(UserError, match="lies on the engine lab, which was removed"):
        further(snapshot, member, "lab")
