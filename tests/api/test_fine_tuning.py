"""Fine-tuning jobs of the API."""

import json
import shutil

import pytest

from jobs.models import EngineSetting, Job
from jobs.trainer.contract.model_folders import SHIPPED
from tests.support import factories
from tests.support.api_client import ApiClient
from tests.support.watching import run_tasks

JOBS = "/fine_tuning/jobs"
Status = Job.Status


@pytest.fixture
def api(member):
    return ApiClient(member)


@pytest.fixture
def create(api, django_capture_on_commit_callbacks):
    """Posts a job on a file that is there."""

    def create(**body):
        body = {"model": "tiny", **body}
        if "training_file" not in body:
            body["training_file"] = factories.make_dataset().uid
        with django_capture_on_commit_callbacks(execute=True):
            return api.post(JOBS, body)

    return create


def test_a_job_is_taken_at_once(create):
    answer = create().json()
    assert answer["object"] == "fine_tuning.job"
    assert answer["status"] == "validating_files"
    assert answer["hyperparameters"]["n_epochs"] == "auto"


def test_what_was_chosen_is_shown_once_it_is_known(create, api, monkeypatch):
    monkeypatch.setattr("jobs.tasks.launch_all", lambda engine: 0)
    job = create(hyperparameters={"n_epochs": 3, "batch_size": "auto"}).json()
    run_tasks()
    shown = api.get(f"{JOBS}/{job['id']}").json()
    used = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.0}
    assert shown["hyperparameters"] == used
    assert shown["method"] == {
        "type": "supervised",
        "supervised": {"hyperparameters": used},
    }
    assert shown["plan"]["total_steps"] == shown["total_steps"] > 0


@pytest.mark.parametrize("context", [8, 64])
def test_a_model_that_reads_little_gets_rows_that_fit(
    create, monkeypatch, data_dir, context
):
    monkeypatch.setattr("jobs.tasks.launch_all", lambda engine: 0)
    folder = shutil.copytree(SHIPPED / "tiny", data_dir / "models" / "short")
    config = json.loads((folder / "config.json").read_bytes())
    config["max_position_embeddings"] = context
    (folder / "config.json").write_text(json.dumps(config))
    factories.mark_tried(folder)
    job = create(model="short")
    assert job.status_code == 200, job.content
    run_tasks()
    assert Job.objects.get().settings.max_tokens <= context
    assert Job.objects.get().status == Job.Status.QUEUED
    assert create(model="short", max_tokens=256).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"n_epochs": 7},
        {"hyperparameters": {"n_epochs": 7}},
        {
            "method": {
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": 7}},
            },
            "n_epochs": "auto",
        },
    ],
)
def test_epochs_may_stand_in_three_places(create, body):
    assert create(**body).json()["hyperparameters"]["n_epochs"] == 7


def test_our_own_settings_are_kept(create):
    own = {
        "max_tokens": 64,
        "completions_every": 5,
        "num_completions": 2,
        "snapshots_every": 0,
        "prompts": ["The capital of Peru is "],
        "method": "lora",
        "when_engine_away": "fail",
    }
    settings = create(**own, name="Mine", seed=7).json()["settings"]
    assert settings == {**own, "early_stop": 0}


@pytest.mark.parametrize(
    ("body", "param", "meant"),
    [
        ({"hyperparameters": {"nepochs": 2}}, "hyperparameters.nepochs", "n_epochs"),
        ({"hyperparameters": {"epochs": 1}}, "hyperparameters.epochs", "n_epochs"),
        (
            {"hyperparameters": {"n_epochs": 1, "learning_rate": 0.1}},
            "hyperparameters.learning_rate",
            "learning_rate_multiplier",
        ),
        (
            {
                "method": {
                    "type": "supervised",
                    "supervised": {"hyperparameters": {"n_epoch": 1}},
                }
            },
            "method.supervised.hyperparameters.n_epoch",
            "n_epochs",
        ),
        ({"method": {"type": "lora", "rank": 4}}, "method.rank", "supervised"),
        ({"n_epoch": 3}, "n_epoch", "n_epochs"),
        ({"sufix": "x"}, "sufix", "suffix"),
        ({"validation_fil": "x"}, "validation_fil", "validation_file"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_known_one(create, body, param, meant):
    error = create(**body).json()["error"]
    assert error["param"] == param
    assert f"{param}: there is no such key" in error["message"]
    assert meant in error["message"]
    assert not Job.objects.exists()


def test_null_stands_for_nothing(create):
    method = {"type": "supervised", "supervised": None, "dpo": None}
    assert create(method=method, hyperparameters={"other": None}).status_code == 200


def test_unknown_fields_are_ignored(create):
    assert create(timeout=20, integrations=None).status_code == 200


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"training_file": "file-none"}, "training_file", "no file"),
        ({"validation_file": "file-none"}, "validation_file", "no file"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "1 to 1,0"),
        ({"batch_size": True}, "batch_size", 'or "auto"'),
        ({"learning_rate_multiplier": "1"}, "learning_rate_multiplier", "0.001 to 100"),
        ({"num_completions": 17}, "num_completions", "1 to 16"),
        ({"snapshots_every": -1}, "snapshots_every", "0 to 1000000"),
        ({"seed": 10**30}, "seed", "whole number"),
        ({"max_tokens": 4096}, "max_tokens", "at most 2048"),
        ({"prompts": ["x"] * 17 + ["y"]}, "prompts", "18 prompts"),
        ({"when_engine_away": "panic"}, "when_engine_away", "'wait' or 'fail'"),
        ({"engine": "moon"}, "engine", "moon"),
        ({"method": {"type": "dpo"}}, "method", "not by dpo"),
        ({"method": "magic"}, "method", '"lora"'),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "64 fit"),
        ({"suffix": "x" * 65}, "suffix", "64 fit"),
        ({"name": "a\0b"}, "name", "no text"),
        ({"early_stop": 2}, "early_stop", "validation"),
        ({"model": "davinci"}, "model", "not on this machine"),
    ],
)
def test_what_is_wrong_is_said_with_the_name_that_the_client_used(
    create, body, param, words
):
    answer = create(**body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert words in error["message"]
    assert not Job.objects.exists()


def test_a_model_that_is_none_is_not_found(create):
    answer = create(model="gpt-9")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_a_snapshot_is_trained_further_with_its_method_and_another_order(create):
    parent = factories.make_job(method="lora", seed=4, status=Status.SUCCEEDED)
    snapshot = factories.make_snapshot(parent)
    shown = create(model=snapshot.uid).json()
    assert shown["model"] == snapshot.uid
    assert (shown["settings"]["method"], shown["seed"]) == ("lora", 5)


@pytest.mark.parametrize(
    ("kind", "engine"), [("", "local"), ("remote", "local"), ("local", "second")]
)
def test_a_snapshot_of_a_queue_is_trained_further_on_this_machine(create, kind, engine):
    if kind:
        EngineSetting.objects.create(name="second", kind=kind)
    snapshot = factories.make_snapshot(factories.make_job(engine="second"))
    assert create(model=snapshot.uid).json()["engine"] == engine


def test_further_snapshots_that_were_asked_for_are_counted(api):
    job = factories.make_job(status=Status.RUNNING)
    for asked in (2, 2, 3):
        shown = api.post(f"{JOBS}/{job.uid}/snapshots", {"requests": asked}).json()
        assert shown["snapshot_requests"] == asked


def test_viewers_create_nothing(viewer):
    answer = ApiClient(viewer).post(JOBS, {"model": "tiny"})
    assert answer.status_code == 403


def test_a_job_that_succeeded_names_its_model_and_its_result_file(api):
    job = factories.make_job(
        status=Status.SUCCEEDED,
        step=16,
        epoch=4.0,
        plan={"tokens": 100},
        suffix="mine",
    )
    last = factories.make_snapshot(job, 16)
    best = factories.make_snapshot(job, 8, best=True)
    shown = api.get(f"{JOBS}/{job.uid}").json()
    uid = job.uid.removeprefix("ftjob-")
    assert shown["fine_tuned_model"] == f"ft:tiny::mine:{uid}"
    assert shown["result_files"] == [f"file-result-{uid}"]
    assert shown["trained_tokens"] == 400
    assert (shown["snapshots"], shown["best_snapshot"], shown["last_snapshot"]) == (
        2,
        best.uid,
        last.uid,
    )


def test_a_job_that_failed_says_why(api):
    job = factories.make_job(status=Status.FAILED, status_message="The disk is full.")
    error = api.get(f"{JOBS}/{job.uid}").json()["error"]
    assert error["message"] == "The disk is full."


def test_a_job_of_no_such_id_is_not_found(api):
    assert api.get(f"{JOBS}/ftjob-none").status_code == 404
    assert api.get(f"{JOBS}/a%00b").status_code == 404


def test_the_list_pages_from_the_newest(api):
    jobs = [factories.make_job() for _ in range(3)]
    first = api.get(JOBS, limit=2).json()
    assert [job["id"] for job in first["data"]] == [jobs[2].uid, jobs[1].uid]
    assert first["has_more"]
    rest = api.get(JOBS, limit=2, after=first["last_id"]).json()
    assert [job["id"] for job in rest["data"]] == [jobs[0].uid]


def test_the_list_is_one_query(api, django_assert_num_queries):
    for _ in range(3):
        factories.make_snapshot(factories.make_job())
    api.get(JOBS)
    # The key, and the jobs.
    with django_assert_num_queries(2):
        api.get(JOBS)


def test_the_list_finds_metadata(api):
    wanted = factories.make_job(metadata={'my "key"': "a b", "other": "1"})
    factories.make_job(metadata={'my "key"': "c"})
    found = api.get(JOBS, **{'metadata[my "key"]': "a b", "metadata[other]": "1"})
    assert [job["id"] for job in found.json()["data"]] == [wanted.uid]
    assert not api.get(JOBS, **{"metadata[other]": "2"}).json()["data"]


def test_a_queued_job_is_cancelled(api):
    job = factories.make_job()
    assert api.post(f"{JOBS}/{job.uid}/cancel").json()["status"] == "cancelled"
    again = api.post(f"{JOBS}/{job.uid}/cancel")
    assert again.status_code == 400
    assert "ended already" in again.json()["error"]["message"]


def test_a_queued_job_is_paused_and_resumed(api):
    job = factories.make_job()
    assert api.post(f"{JOBS}/{job.uid}/pause").json()["status"] == "paused"
    assert api.post(f"{JOBS}/{job.uid}/resume").json()["status"] == "queued"


@pytest.mark.parametrize("change", ["cancel", "pause", "resume"])
def test_viewers_change_nothing(viewer, change):
    job = factories.make_job()
    assert ApiClient(viewer).post(f"{JOBS}/{job.uid}/{change}").status_code == 403


def test_graders_are_said_to_be_missing(api):
    answer = api.post("/fine_tuning/alpha/graders/run")
    assert answer.status_code == 404
    assert "reinforcement" in answer.json()["error"]["message"]


@pytest.mark.parametrize("wrong", [5, "x", [], False])
def test_hyperparameters_that_are_no_object_are_refused(create, wrong):
    answer = create(hyperparameters=wrong)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "hyperparameters"
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("supervised", "param"),
    [(7, ""), ("x", ""), ({"hyperparameters": []}, ".hyperparameters")],
)
def test_a_part_of_the_method_that_is_no_object_is_refused(create, supervised, param):
    answer = create(method={"type": "supervised", "supervised": supervised})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "method.supervised" + param


@pytest.mark.parametrize("wrong", [5, "x", [1]])
def test_a_body_that_is_no_object_asks_for_no_snapshot(api, wrong):
    job = factories.make_job(status=Status.RUNNING)
    answer = api.post(f"{JOBS}/{job.uid}/snapshots", wrong)
    assert answer.status_code == 400
    job.refresh_from_db()
    assert job.snapshot_requests == 0
