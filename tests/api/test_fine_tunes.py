"""Fine-tunes, as clients before version 1 know jobs."""

import asyncio
import json
import threading

import pytest
import requests

from datasets.models import DatasetVersion
from finetune_site.team.services import create_api_key
from jobs.api.fine_tunes import News, event_stream
from jobs.engines.base import Report
from jobs.models import Job
from jobs.services.ingestion import ingest
from jobs.trainer.contract.events import read_events
from tests.support import factories
from tests.support.api_client import ApiClient
from tests.support.watching import run_tasks
from tests.support.web_server import serve

Status = Job.Status


@pytest.fixture
def api(member):
    return ApiClient(member)


def report(job, *lines):
    """Reports lines as if the job's trainer had written them."""
    factories.make_run_events(job, *lines)
    events, offset = read_events(job.folder / "events.jsonl")
    return ingest(job, Report(events=events, offset=offset, alive=True, launched=True))


def test_a_fine_tune_is_created(api):
    version = factories.make_dataset()
    answer = api.post("/fine-tunes", {"training_file": version.uid, "n_epochs": 2})
    shown = answer.json()
    assert (shown["object"], shown["status"]) == ("fine-tune", "pending")
    assert shown["hyperparams"]["n_epochs"] == 2
    assert [file["id"] for file in shown["training_files"]] == [version.uid]
    assert shown["events"][0]["message"] == f"Created fine-tune: {shown['id']}"


def test_the_prompts_of_the_file_get_the_weight_that_is_asked_for(
    api, django_capture_on_commit_callbacks, member, tmp_path
):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "The sky is", "completion": " blue"}\n' * 30)
    with django_capture_on_commit_callbacks(execute=True):
        with path.open("rb") as file:
            version = api.client.post(
                "/v1/files",
                {"file": file, "purpose": "fine-tune"},
                headers=api.headers,
            ).json()
        body = {"training_file": version["id"], "prompt_loss_weight": 0.1}
        made = api.post("/fine-tunes", body).json()
    # The new version waits for the old one's import.
    for _ in range(3):
        run_tasks()
    job = Job.objects.get(uid=made["id"])
    assert job.dataset_version != DatasetVersion.objects.get(uid=version["id"])
    shown = api.get(f"/fine-tunes/{job.uid}").json()
    assert shown["hyperparams"]["prompt_loss_weight"] == 0.1


def test_a_weight_that_cannot_be_is_refused(api):
    body = {"training_file": factories.make_dataset().uid, "prompt_loss_weight": 11}
    error = api.post("/fine-tunes", body).json()["error"]
    assert error["param"] == "prompt_loss_weight"


def test_the_object_of_an_ended_job_holds_what_happened(api):
    job = factories.make_job(status=Status.STARTING)
    report(
        job,
        factories.step_event(1, loss=2.5),
        {"type": "status", "status": "succeeded", "message": ""},
    )
    shown = api.get(f"/fine-tunes/{job.uid}").json()
    assert shown["status"] == "succeeded"
    assert shown["fine_tuned_model"].startswith("ft:tiny::")
    assert shown["result_files"][0]["filename"].endswith(".csv")
    messages = [event["message"] for event in shown["events"]]
    assert messages == [f"Created fine-tune: {job.uid}", "Succeeded"]


def test_events_have_the_steps_oldest_first(api):
    job = factories.make_job(status=Status.STARTING)
    report(job, *[factories.step_event(step, loss=2.5) for step in (1, 2)])
    events = api.get(f"/fine-tunes/{job.uid}/events").json()["data"]
    starts = [event["message"].split(":")[0] for event in events]
    assert starts == ["Created fine-tune", "Step 1", "Step 2"]


def test_a_job_that_never_ran_says_why_it_failed(api):
    job = factories.make_job(status=Status.FAILED, status_message="Nothing to learn.")
    job.finished_at = job.created_at
    job.save()
    last = api.get(f"/fine-tunes/{job.uid}/events").json()["data"][-1]
    assert (last["level"], last["message"]) == ("error", "Failed: Nothing to learn.")


def test_the_list_takes_two_queries(api, django_assert_num_queries):
    for _ in range(3):
        factories.make_job()
    api.get("/fine-tunes")
    # The key, and the jobs with their files.
    with django_assert_num_queries(2):
        assert len(api.get("/fine-tunes").json()["data"]) == 3


def test_a_fine_tune_is_cancelled(api):
    job = factories.make_job()
    assert api.post(f"/fine-tunes/{job.uid}/cancel").json()["status"] == "cancelled"


@pytest.fixture
def site(transactional_db):
    with serve() as address:
        yield address


@pytest.fixture
def follow(site, member):
    headers = {"authorization": f"Bearer {create_api_key(member=member)}"}

    def ask(job):
        address = f"{site}/v1/fine-tunes/{job.uid}/events?stream=true"
        return requests.get(address, headers=headers, stream=True, timeout=20)

    return ask


def test_the_stream_follows_a_job_to_its_end(follow):
    job = factories.make_job(status=Status.STARTING)
    report(job, factories.step_event(1))
    end = {"type": "status", "status": "succeeded", "message": ""}
    later = threading.Timer(0.8, report, (job, factories.step_event(2), end))
    with follow(job) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = answer.iter_lines(chunk_size=1)
        assert b"Created fine-tune" in next(lines)
        later.start()
        rest = [line.removeprefix(b"data: ") for line in lines if line]
    later.join()
    told = [json.loads(line)["message"].split(":")[0] for line in rest[:-1]]
    assert (told, rest[-1]) == (["Step 1", "Step 2", "Succeeded"], b"[DONE]")


def test_the_stream_of_a_job_that_stays_paused_ends(follow, monkeypatch):
    monkeypatch.setattr("jobs.api.fine_tunes.PAUSED_SECONDS", 0.1)
    with follow(factories.make_job(status=Status.PAUSED)) as answer:
        assert list(answer.iter_lines())[-2] == b"data: [DONE]"


def test_a_member_follows_so_many_at_a_time(follow, monkeypatch):
    monkeypatch.setattr("jobs.api.fine_tunes.MAX_STREAMS", 1)
    job = factories.make_job()
    with follow(job) as first:
        lines = first.iter_lines(chunk_size=1)
        next(lines)
        assert follow(job).status_code == 429


def test_a_stream_without_news_looks_ever_less_often(monkeypatch):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    async def read_all():
        return [part async for part in event_stream(1)]

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(
        "jobs.api.fine_tunes.read_on", lambda *_: News([], 0, ended=len(waits) > 9)
    )
    asyncio.run(read_all())
    assert (waits[0], waits[-1]) == (0.5, 3.0)
