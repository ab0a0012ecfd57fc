import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from finetune_site.common.errors import UserError
from finetune_site.team.models import AuditEntry
from jobs.models import Job
from jobs.new_job.creation import check_parent
from jobs.services import jobs as services
from jobs.trainer.contract.weights_file import weights_sha256
from tests.support import factories
from tests.support.training import make_small_model, shake
from tests.support.watching import run_tasks

Status = Job.Status


@pytest.fixture
def create(member, django_capture_on_commit_callbacks):
    def create(**options):
        options = {"name": "Capitals", "base_model": "tiny", **options}
        if "dataset_version" not in options:
            options["dataset_version"] = factories.make_dataset()
        with django_capture_on_commit_callbacks(execute=True):
            return factories.create_job(member=member, **options)

    return create


def test_a_new_job_is_validating_and_its_preparation_queued(create, monkeypatch):
    prepared = []
    monkeypatch.setattr("jobs.tasks.prepare_job", prepared.append)
    job = create()
    run_tasks()
    assert (job.status, prepared) == (Status.VALIDATING, [job.pk])


def test_creating_a_job_is_in_the_audit_trail(create, member):
    job = create()
    entry = AuditEntry.objects.get(action="job.create")
    assert (entry.member, entry.detail["job"]) == (member, job.uid)


def test_an_adapter_is_not_trained_further_on_other_weights(db, data_dir):
    folder = data_dir / "models" / "house"
    make_small_model(folder)
    factories.mark_tried(folder)
    job = factories.make_job(base_model="house", method="lora")
    made = {"base_sha256": weights_sha256(folder), "created_at": timezone.now()}
    snapshot = factories.make_snapshot(job, **made)
    check_parent(Job(base_model="house", parent_snapshot=snapshot))
    shake(folder)
    with pytest.raises(UserError, match="files of house were replaced") as caught:
        check_parent(Job(base_model="house", parent_snapshot=snapshot))
    assert caught.value.field == "parent_snapshot"


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"base_model": "gpt-9"}, "base_model", "no base model gpt-9"),
        ({"base_model": "davinci"}, "base_model", "not on this machine"),
        ({"max_tokens": 4096}, "max_tokens", "at most 2,048"),
        ({"epochs": 0}, "epochs", "greater than or equal to 1"),
        ({"engine": "moon"}, "engine", "no engine moon"),
        ({"prompts": ["x" * 9000]}, "prompts", "Prompt 1 has 9,000"),
        ({"prompts": ["a\0b"]}, "prompts", "zero character"),
        ({"prompts": [str(n) for n in range(17)]}, "prompts", "17 prompts"),
        ({"early_stop": 2}, "early_stop", "Choose a validation dataset"),
    ],
)
def test_what_cannot_work_is_refused_with_its_field(create, options, field, words):
    with pytest.raises(UserError, match=words) as caught:
        create(**options)
    assert caught.value.field == field


def test_a_dataset_still_being_imported_is_refused(create):
    version = factories.make_dataset()
    version.status = version.Status.IMPORTING
    with pytest.raises(UserError, match="still being imported") as caught:
        create(validation_version=version)
    assert caught.value.field == "validation_version"


def test_stopping_early_wants_snapshots_on_the_way(create):
    with pytest.raises(UserError, match="one at the end only") as caught:
        create(
            early_stop=2,
            snapshots_every=0,
            validation_version=factories.make_dataset(),
        )
    assert caught.value.field == "early_stop"


def test_a_job_from_a_snapshot_takes_its_base_model(create):
    snapshot = factories.make_snapshot(factories.make_job())
    job = create(base_model="", parent_snapshot=snapshot)
    assert job.base_model == "tiny"


def test_a_snapshot_without_files_is_refused(create):
    snapshot = factories.make_snapshot(factories.make_job())
    snapshot.folder.rmdir()
    with pytest.raises(UserError, match="are gone"):
        create(parent_snapshot=snapshot)


@pytest.mark.parametrize("status", [Status.VALIDATING, Status.QUEUED, Status.PAUSED])
def test_stopping_a_job_that_is_not_running_ends_it_at_once(member, status):
    job = factories.make_job(status=status)
    services.stop_job(member=member, job=job)
    assert job.status == Status.CANCELLED
    assert job.finished_at


@pytest.mark.parametrize("status", [Status.QUEUED, Status.PAUSED])
def test_stopping_a_job_that_has_learned_has_a_trainer_take_a_snapshot(member, status):
    job = factories.make_job(status=status, step=5)
    services.stop_job(member=member, job=job)
    assert (job.status, job.want) == (Status.QUEUED, Job.Want.STOP)
    with pytest.raises(UserError, match="cannot be paused"):
        services.pause_job(member=member, job=job)


def test_a_change_that_cannot_be_recorded_is_not_made(member, monkeypatch):
    def fail(**facts):
        raise OSError("no room")

    monkeypatch.setattr(services, "record", fail)
    job = factories.make_job()
    with pytest.raises(OSError):
        services.stop_job(member=member, job=job)
    assert Job.objects.get().status == Status.QUEUED


def test_stopping_a_running_job_leaves_the_end_to_its_trainer(member):
    job = factories.make_job(status=Status.RUNNING)
    services.stop_job(member=member, job=job)
    assert (job.status, job.want) == (Status.RUNNING, Job.Want.STOP)


def test_stopping_an_ended_job_says_so(member):
    job = factories.make_job(status=Status.SUCCEEDED)
    with pytest.raises(UserError, match="has ended already: it is succeeded"):
        services.stop_job(member=member, job=job)


def test_a_stop_sees_what_has_changed_since_the_page_was_made(member):
    job = factories.make_job()
    Job.objects.filter(pk=job.pk).update(status=Status.STARTING)
    services.stop_job(member=member, job=job)
    assert (job.status, job.want) == (Status.STARTING, Job.Want.STOP)


@pytest.mark.parametrize(
    ("status", "want", "act"),
    [
        (Status.RUNNING, Job.Want.RUN, services.stop_job),
        (Status.RUNNING, Job.Want.RUN, services.pause_job),
        (Status.RUNNING, Job.Want.PAUSE, services.resume_job),
        (Status.RUNNING, Job.Want.RUN, services.request_snapshot),
    ],
)
def test_what_the_trainer_reported_meanwhile_stays(member, status, want, act):
    job = factories.make_job(status=status, want=want)
    Job.objects.filter(pk=job.pk).update(step=7, last_seq=9, train_loss=1.5)
    act(member=member, job=job)
    for seen in (job, Job.objects.get()):
        assert (seen.step, seen.last_seq, seen.train_loss) == (7, 9, 1.5)


def test_an_action_writes_only_the_columns_it_changes(member):
    job = factories.make_job(status=Status.RUNNING)
    with CaptureQueriesContext(connection) as queries:
        services.pause_job(member=member, job=job)
    [write] = [q["sql"] for q in queries if q["sql"].startswith("UPDATE")]
    assert re.findall(r'"(\w+)" = ', write.split(" WHERE ")[0]) == ["want", "status"]


def test_a_queued_job_pauses_at_once(member):
    job = factories.make_job()
    services.pause_job(member=member, job=job)
    assert job.status == Status.PAUSED


def test_a_job_being_stopped_cannot_be_paused(member):
    job = factories.make_job(status=Status.RUNNING, want=Job.Want.STOP)
    with pytest.raises(UserError, match="cannot be paused"):
        services.pause_job(member=member, job=job)


def test_a_resumed_job_queues_and_is_launched(
    member, django_capture_on_commit_callbacks, monkeypatch
):
    job = factories.make_job(status=Status.PAUSED, want=Job.Want.PAUSE)
    launched = []
    monkeypatch.setattr("jobs.tasks.launch_queued", launched.append)
    with django_capture_on_commit_callbacks(execute=True):
        services.resume_job(member=member, job=job)
    run_tasks()
    assert (job.status, job.want, launched) == (Status.QUEUED, "run", ["local"])


def test_a_pause_not_yet_obeyed_is_taken_back(member):
    job = factories.make_job(status=Status.RUNNING, want=Job.Want.PAUSE)
    services.resume_job(member=member, job=job)
    assert (job.status, job.want) == (Status.RUNNING, Job.Want.RUN)


def test_snapshot_requests_are_counted(member):
    job = factories.make_job(status=Status.RUNNING)
    services.request_snapshot(member=member, job=job)
    services.request_snapshot(member=member, job=job)
    assert job.snapshot_requests == 2


def test_deleting_removes_rows_and_files(member):
    job = factories.make_job(status=Status.SUCCEEDED)
    factories.make_snapshot(job)
    folder = job.folder
    services.delete_job(member=member, job=job)
    assert not Job.objects.exists()
    assert not folder.exists()


def test_a_running_job_cannot_be_deleted(member):
    job = factories.make_job(status=Status.RUNNING)
    with pytest.raises(UserError, match="Stop it first"):
        services.delete_job(member=member, job=job)


def test_a_job_whose_snapshot_was_trained_further_cannot_be_deleted(member):
    job = factories.make_job(status=Status.SUCCEEDED)
    factories.make_job(name="Child", parent_snapshot=factories.make_snapshot(job))
    with pytest.raises(UserError, match="Delete Child first"):
        services.delete_job(member=member, job=job)
