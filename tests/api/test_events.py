"""Events, checkpoints and the plan of jobs, as the API tells them."""

import threading

import pytest
from django.db import OperationalError

from jobs.api.plan import PlanShape
from jobs.engines.base import Report
from jobs.models import CheckpointPermission, Job
from jobs.services.ingestion import ingest
from jobs.services.permissions import permit_projects
from jobs.trainer.contract.events import read_events
from tests.support import factories
from tests.support.api_client import ApiClient
from tests.support.running_site import wait_for
from tests.support.watching import run_tasks

LINES = [
    {"time": 1795407621.444, "type": "status", "status": "running"},
    factories.step_event(1, loss=2.5, accuracy=0.4),
    {"type": "validation", "step": 1, "loss": 2.75, "accuracy": 0.3},
    {
        "type": "completion",
        "step": 1,
        "prompt_index": 0,
        "prompt": "The capital of France is ",
        "index": 0,
        "text": "Rome",
        "finish_reason": "length",
    },
    {"type": "log", "level": "warning", "message": "The rate was halved."},
    {"type": "status", "status": "failed", "message": "The disk is full."},
]


@pytest.fixture
def api(member):
    return ApiClient(member)


@pytest.fixture
def job(db):
    """Makes a job whose trainer wrote LINES."""
    job = factories.make_job(status=Job.Status.STARTING)
    lines, offset = read_events(factories.make_run_events(job, *LINES))
    return ingest(job, Report(events=lines, offset=offset, alive=False, launched=True))


def ids(answer):
    return [int(event["id"][-8:]) for event in answer.json()["data"]]


def test_an_event_carries_its_whole_line(api, job):
    events = api.get(f"/fine_tuning/jobs/{job.uid}/events", order="asc").json()["data"]
    lines, _ = read_events(job.folder / "events.jsonl")
    # Rows know the step of lines that do not say it.
    assert events[0]["data"] == {**lines[0], "step": 0}
    assert events[1]["data"].keys() == lines[1].keys()


def test_events_are_sentences_of_two_kinds(api, job):
    events = api.get(f"/fine_tuning/jobs/{job.uid}/events", order="asc").json()["data"]
    assert [(event["type"], event["level"]) for event in events] == [
        ("message", "info"),
        ("metrics", "info"),
        ("metrics", "info"),
        ("message", "info"),
        ("message", "warn"),
        ("message", "error"),
    ]
    assert "train loss 2.50" in events[1]["message"]
    assert events[3]["message"] == "Step 1: The capital of France is Rome"


def test_events_page_from_the_newest(api, job):
    first = api.get(f"/fine_tuning/jobs/{job.uid}/events", limit=4)
    assert (ids(first), first.json()["has_more"]) == ([6, 5, 4, 3], True)
    after = first.json()["last_id"]
    rest = api.get(f"/fine_tuning/jobs/{job.uid}/events", limit=4, after=after)
    assert (ids(rest), rest.json()["has_more"]) == ([2, 1], False)


def test_a_follower_makes_the_id_it_asks_after(api, job):
    address = f"/fine_tuning/jobs/{job.uid}/events"
    start = f"ftevent-{job.uid.removeprefix('ftjob-')}"
    assert ids(api.get(address, order="asc", after=f"{start}-00000000"))[0] == 1
    assert ids(api.get(address, order="asc", after=f"{start}-00000004")) == [5, 6]
    assert ids(api.get(address, order="asc", after=f"{start}-00000099")) == []


def test_an_event_of_another_job_is_refused(api, job):
    address = f"/fine_tuning/jobs/{job.uid}/events"
    answer = api.get(address, after="ftevent-other-00000001")
    assert answer.status_code == 404
    assert answer.json()["error"]["param"] == "after"


def test_following_is_three_queries(api, job, django_assert_num_queries):
    address = f"/fine_tuning/jobs/{job.uid}/events"
    api.get(address)
    # The key, the job, the events.
    with django_assert_num_queries(3):
        api.get(address, order="asc", limit=1000)


def test_a_checkpoint_has_what_was_measured_at_its_step(api, job):
    snapshot = factories.make_snapshot(job, 1)
    page = api.get(f"/fine_tuning/jobs/{job.uid}/checkpoints").json()
    checkpoint = page["data"][0]
    assert checkpoint["id"] == f"ftckpt-{job.uid.removeprefix('ftjob-')}-1"
    assert checkpoint["fine_tuned_model_checkpoint"] == snapshot.uid
    assert checkpoint["metrics"] == {
        "step": 1,
        "train_loss": 2.5,
        "train_mean_token_accuracy": 0.4,
        "valid_loss": 2.75,
        "valid_mean_token_accuracy": 0.3,
        "full_valid_loss": 2.75,
        "full_valid_mean_token_accuracy": 0.3,
    }


def test_checkpoints_page_from_the_newest(api, job):
    for step in (10, 20, 30):
        factories.make_snapshot(job, step)
    address = f"/fine_tuning/jobs/{job.uid}/checkpoints"
    first = api.get(address, limit=2).json()
    rest = api.get(address, limit=2, after=first["last_id"]).json()
    steps = [one["step_number"] for one in first["data"] + rest["data"]]
    assert (steps, first["has_more"], rest["has_more"]) == ([30, 20, 10], True, False)


def test_permissions_are_noted_listed_and_taken_back(api, job):
    snapshot = factories.make_snapshot(job, 1)
    address = f"/fine_tuning/checkpoints/{snapshot.uid}/permissions"
    noted = api.post(address, {"project_ids": ["proj_a", "proj_b", "proj_a"]}).json()
    assert [one["project_id"] for one in noted["data"]] == ["proj_a", "proj_b"]
    gone = api.delete(f"{address}/{noted['first_id']}").json()
    assert (gone["id"], gone["deleted"]) == (noted["first_id"], True)
    assert api.get(address, project_id="proj_a").json()["data"] == []
    assert [one["project_id"] for one in api.get(address).json()["data"]] == ["proj_b"]


def test_permission_for_what_has_one_is_no_second_one(api, job):
    snapshot = factories.make_snapshot(job, 1)
    address = f"/fine_tuning/checkpoints/{snapshot.uid}/permissions"
    for _ in range(2):
        assert api.post(address, {"project_ids": ["proj_a"]}).status_code == 200
    assert CheckpointPermission.objects.count() == 1


def test_no_permission_is_noted_without_its_line_in_the_audit_trail(
    member, job, monkeypatch
):
    def fail(**_):
        raise OperationalError

    monkeypatch.setattr("jobs.services.permissions.record", fail)
    snapshot = factories.make_snapshot(job, 1)
    with pytest.raises(OperationalError):
        permit_projects(member=member, snapshot=snapshot, projects=["proj_a"])
    assert not CheckpointPermission.objects.exists()


def test_viewers_note_no_permission(viewer, job):
    snapshot = factories.make_snapshot(job, 1)
    address = f"/fine_tuning/checkpoints/{snapshot.uid}/permissions"
    answer = ApiClient(viewer).post(address, {"project_ids": ["proj_a"]})
    assert answer.status_code == 403


def plan_body(**body):
    return {"model": "tiny", "training_file": factories.make_dataset().uid, **body}


@pytest.fixture
def counting(transactional_db):
    """Runs the tasks that requests wait for."""
    stopped = threading.Event()

    def work():
        while not stopped.wait(0.05):
            run_tasks()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stopped.set()
    thread.join()


def test_a_plan_counts_the_tokens_and_starts_nothing(counting, member):
    body = plan_body(max_tokens=8, n_epochs=2)
    plan = ApiClient(member).post("/fine_tuning/plan", body).json()
    assert set(plan) == set(PlanShape.model_fields)
    assert plan["total_steps"] == 2 * plan["steps_per_epoch"] > 0
    assert not Job.objects.exists()


def test_the_plan_of_what_is_left_to_the_site_is_the_jobs(
    counting, member, monkeypatch
):
    monkeypatch.setattr("jobs.tasks.launch_all", lambda engine: 0)
    api, body = ApiClient(member), plan_body(validation_file=None)
    plan = api.post("/fine_tuning/plan", body).json()
    api.post("/fine_tuning/jobs", body)
    wait_for(lambda: Job.objects.filter(status="queued").exists(), 10, "its plan")
    made = Job.objects.get().plan
    # Only the speed may have been measured meanwhile.
    assert {**plan, "seconds": None} == {**made, "seconds": None}


def test_a_plan_that_takes_too_long_is_asked_for_again(
    transactional_db, member, monkeypatch
):
    monkeypatch.setattr("jobs.api.plan.WAIT_SECONDS", 0)
    answer = ApiClient(member).post("/fine_tuning/plan", plan_body())
    assert (answer.status_code, answer["retry-after"]) == (503, "20")


def test_a_plan_for_a_file_that_cannot_be_read_is_refused(api):
    version = factories.make_dataset()
    version.status, version.status_message = "failed", "There is nothing in it."
    version.save()
    answer = api.post("/fine_tuning/plan", plan_body(training_file=version.uid))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "training_file")
