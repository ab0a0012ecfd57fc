"""`openai-ft -t` against a server that answers as written down."""

import hashlib
import json
import time

import pytest

from jobs.cli import creation, following, training, uploads
from jobs.cli.main import run
from jobs.cli.plan import rows_note
from jobs.cli.problems import Problem
from tests.support import scripted_api
from tests.support.scripted_api import BROKEN, error, page

JOB = {
    "id": "ftjob-a",
    "status": "succeeded",
    "model": "tiny",
    "engine": "local",
    "created_at": 100,
    "finished_at": 130,
    "step": 8,
    "total_steps": 8,
    "train_loss": 1.5,
    "fine_tuned_model": "ft:tiny:::a",
}
FILE = {"id": "file-a", "status": "processed", "filename": "a.jsonl", "num_examples": 1}
LINE = b'{"data": {"text_list": ["a"], "loss_weights": [1]}}\n'
# As the site writes the same example.
STORED = b'{"data":{"text_list":["a"],"loss_weights":[1.0]}}\n'


@pytest.fixture
def api(monkeypatch):
    for module, name in (
        (uploads, "POLL_SECONDS"),
        (following, "POLL_SECONDS"),
        (following, "JOB_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.01)
    with scripted_api.serve() as running:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        running.on("GET /files", page())
        running.on("POST /files", FILE)
        running.on("POST /fine_tuning/jobs", JOB)
        running.on("GET /fine_tuning/jobs", page())
        running.on("GET /fine_tuning/jobs/ftjob-a", JOB)
        running.on("GET /fine_tuning/jobs/ftjob-a/events", page())
        yield running


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE)
    return str(path)


def event(seq, **fields):
    return {"id": f"ftevent-{seq}", "data": {"seq": seq, **fields}}


def sent_job(api):
    return json.loads(api.asked("POST /fine_tuning/jobs")[-1].body)


def test_only_what_was_given_is_sent(api, data):
    run(["-t", data, "-m", "Ada", "--num-epochs", "2", "-s", "0.5", "--lora"])
    job = sent_job(api)
    del job["metadata"]
    assert job == {
        "model": "Ada",
        "training_file": "file-a",
        "n_epochs": 2,
        "learning_rate_multiplier": 0.5,
        "method": "lora",
    }


def test_the_file_is_sent_as_a_form(api, data):
    run(["-t", data])
    request = api.asked("POST /files")[0]
    assert b'name="purpose"\r\n\r\nfine-tune\r\n' in request.body
    assert b'filename="a.jsonl"\r\n' in request.body
    assert LINE in request.body
    assert int(request.headers["content-length"]) == len(request.body)


def test_a_file_that_is_there_is_not_sent_again(api, data):
    looks = {"bytes": len(LINE), "sha256": hashlib.sha256(STORED).hexdigest()}
    same = {**FILE, "id": "file-b", **looks}
    api.on("GET /files", page(same))
    run(["-t", data])
    assert not api.asked("POST /files")
    assert sent_job(api)["training_file"] == "file-b"


def test_another_file_of_the_same_name_is_sent(api, data):
    api.on("GET /files", page({**FILE, "bytes": len(LINE), "sha256": "0" * 64}))
    run(["-t", data])
    assert len(api.asked("POST /files")) == 1


def test_an_upload_whose_answer_is_lost_goes_again_with_its_key(api, data, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    api.on("POST /files", BROKEN, FILE)
    run(["-t", data])
    keys = {one.headers["idempotency-key"] for one in api.asked("POST /files")}
    assert len(api.asked("POST /files")) == 2
    assert len(keys) == 1


def test_the_id_of_a_file_on_the_site_will_do(api):
    run(["-t", "file-xyz", "--val", "file-uvw"])
    assert sent_job(api)["training_file"] == "file-xyz"
    assert sent_job(api)["validation_file"] == "file-uvw"


def test_a_file_that_the_site_cannot_read_ends_it(api, data):
    broken = {**FILE, "status": "error", "status_details": "Line 1 is bad."}
    api.on("POST /files", {**FILE, "status": "uploaded"})
    api.on("GET /files/file-a", broken)
    with pytest.raises(Problem, match=r"^a\.jsonl: Line 1 is bad"):
        run(["-t", data])
    assert not api.asked("POST /fine_tuning/jobs")


def test_who_sends_plain_text_is_told_how_it_was_cut(api, tmp_path, capsys):
    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\n")
    api.on("POST /files", {**FILE, "filename": "a.txt", "num_examples": 2})
    run(["-t", str(path)])
    said = capsys.readouterr().out
    assert "2 examples.\n  Every paragraph is an example." in said
    assert f"`openai-ft prepare {path} --split whole`" in said


def test_nothing_of_cuts_is_said_of_json_lines(api, data, capsys):
    api.on("POST /files", {**FILE, "num_examples": 2})
    run(["-t", data])
    assert "paragraph" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, ""), (1, ", 1 example is cut"), (2, ", 2 examples are cut")],
)
def test_the_plan_counts_what_is_cut(number, words):
    note = rows_note({"padding_share": 0, "pieces_cut": number})
    assert note == f"0\u00a0% padding{words}" + (" into pieces" if number else "")


def test_the_key_of_a_job_is_in_its_metadata(api, data):
    run(["-t", data])
    request = api.asked("POST /fine_tuning/jobs")[0]
    key = request.headers["idempotency-key"]
    assert sent_job(api)["metadata"] == {"client_job_id": key}


def test_a_job_whose_answer_is_lost_is_looked_for_before_it_goes_again(
    api, data, monkeypatch
):
    monkeypatch.setattr(creation, "MAX_PAUSE_SECONDS", 0)
    made = {}

    def create(request):
        made.update(json.loads(request.body)["metadata"])
        return BROKEN

    api.on("POST /fine_tuning/jobs", create)
    api.on("GET /fine_tuning/jobs", lambda request: page({**JOB, "metadata": made}))
    assert run(["-t", data]) == 0
    assert len(api.asked("POST /fine_tuning/jobs")) == 1
    query = api.asked("GET /fine_tuning/jobs")[0].query
    assert query["metadata[client_job_id]"] == made["client_job_id"]


def test_a_job_that_never_came_goes_again_with_the_same_key(api, data, monkeypatch):
    monkeypatch.setattr(creation, "MAX_PAUSE_SECONDS", 0)
    api.on("POST /fine_tuning/jobs", BROKEN, JOB)
    assert run(["-t", data]) == 0
    tries = api.asked("POST /fine_tuning/jobs")
    assert len({one.headers["idempotency-key"] for one in tries}) == 1
    assert len(tries) == 2


def test_a_refusal_names_the_flag(api, data):
    refusal = (400, error("max_tokens: tiny reads at most 2,048", "max_tokens"))
    api.on("POST /fine_tuning/jobs", refusal)
    with pytest.raises(Problem, match="^--max-tokens: tiny reads") as refused:
        run(["-t", data])
    assert refused.value.exit_code == 2


def test_an_unknown_model_is_answered_with_those_there_are(api, data):
    unknown = (404, error("no such", "model", "model_not_found"))
    api.on("POST /fine_tuning/jobs", unknown)
    api.on("GET /models", page({"id": "tiny"}, {"id": "ft:x", "parent": "tiny"}))
    with pytest.raises(Problem, match=r"^-m: .* Base models there: tiny\. An admin"):
        run(["-t", data, "-m", "nope"])


def test_a_model_that_must_be_downloaded_is_said_with_the_page_for_it(api, data):
    refusal = (400, error("The base model ada is not on this machine.", "model"))
    api.on("POST /fine_tuning/jobs", refusal)
    api.on("GET /models", page({"id": "tiny"}))
    with pytest.raises(Problem, match=r"ada is not .*: tiny\. .* page Models"):
        run(["-t", data, "-m", "ada"])


@pytest.mark.parametrize(
    "name", ["nowhere.jsonl", ".", "empty.jsonl", "a.csv", "a.xlsx"]
)
def test_files_are_looked_at_before_anything_is_sent(api, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "a.csv").write_text("prompt,completion\na,b\n")
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(Problem, match="^-t: "):
        run(["-t", name])
    assert not api.requests


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("cancelled", 3)])
def test_the_exit_code_is_how_the_job_ended(api, data, status, code):
    api.on("GET /fine_tuning/jobs/ftjob-a", {**JOB, "status": status})
    assert run(["-t", data]) == code


def test_a_failed_job_says_why(api, data):
    failed = {**JOB, "status": "failed", "error": {"message": "The disk is full."}}
    api.on("GET /fine_tuning/jobs/ftjob-a", failed)
    with pytest.raises(Problem, match="The disk is full") as end:
        run(["-t", data])
    assert end.value.exit_code == 1


def test_events_are_told_once_and_in_order(api, data, capsys):
    one, two = (event(n, type="snapshot", id=f"tiny:{n}") for n in (1, 2))

    def events(request):
        after = request.query.get("after")
        left = {None: [one, two], "ftevent-1": [two], "ftevent-2": []}[after]
        return page(*left[:1], has_more=len(left) > 1)

    api.on("GET /fine_tuning/jobs/ftjob-a", {**JOB, "status": "running"}, JOB)
    api.on("GET /fine_tuning/jobs/ftjob-a/events", events)
    run(["-t", data])
    told = [line for line in capsys.readouterr().out.splitlines() if "Created" in line]
    assert told == ["Created snapshot tiny:1", "Created snapshot tiny:2"]


def test_events_that_come_with_the_end_are_told(api, data, capsys):
    last = event(1, type="snapshot", id="tiny:1")
    path = "GET /fine_tuning/jobs/ftjob-a/events"
    api.on(path, page(), page(last), page())
    run(["-t", data])
    assert "Created snapshot tiny:1" in capsys.readouterr().out


def test_a_server_that_goes_away_is_waited_for(api, data, capsys):
    running = {**JOB, "status": "running"}
    api.on("GET /fine_tuning/jobs/ftjob-a", running, BROKEN, (500, b""), BROKEN, JOB)
    assert run(["-t", data]) == 0
    said = capsys.readouterr().out
    assert said.count("No answer from") == 1
    assert said.count("The server is back.") == 1


def test_words_of_a_running_job_are_passed_on(api, data, capsys):
    away = {**JOB, "status": "running", "status_message": "Engine big is away."}
    api.on("GET /fine_tuning/jobs/ftjob-a", away, away, JOB)
    run(["-t", data])
    assert capsys.readouterr().out.count("Engine big is away.") == 1


def test_a_job_that_is_deleted_ends_it(api, data):
    api.on("GET /fine_tuning/jobs/ftjob-a", (404, error("gone")))
    with pytest.raises(Problem, match="was deleted"):
        run(["-t", data])


def test_who_waits_is_told_how_many_are_ahead(api, data, capsys):
    queued = {**JOB, "status": "queued", "step": 0}
    running = {**JOB, "id": "ftjob-b", "status": "running", "seconds_left": 90}
    elsewhere = {**running, "engine": "big"}
    api.on("GET /fine_tuning/jobs", page(queued, elsewhere, running))
    api.on("GET /fine_tuning/jobs/ftjob-a", JOB)
    api.on("POST /fine_tuning/jobs", queued)
    run(["-t", data])
    said = capsys.readouterr().out
    assert "waits behind 2 others; 1:30 left of the first" in said


def test_no_name_steers_the_terminal(api, data, capsys):
    api.on("POST /fine_tuning/jobs", {**JOB, "name": "\x1b[2J[red]gone"})
    run(["-t", data])
    assert "\ufffd[2J[red]gone" in capsys.readouterr().out


def test_detach_says_how_to_follow(api, data, capsys):
    assert run(["-t", data, "--detach"]) == 0
    assert "openai-ft --follow ftjob-a" in capsys.readouterr().out
    assert not api.asked("GET /fine_tuning/jobs/ftjob-a")


def test_an_unknown_job_cannot_be_followed(api):
    with pytest.raises(Problem, match="There is no job ftjob-z"):
        run(["--follow", "ftjob-z"])


def test_without_a_terminal_ctrl_c_leaves_the_job(api, data, capsys, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Follower, "run", interrupt)
    assert run(["-t", data]) == 130
    assert "openai-ft --follow ftjob-a" in capsys.readouterr().out
    assert not api.asked("POST /fine_tuning/jobs/ftjob-a/cancel")
