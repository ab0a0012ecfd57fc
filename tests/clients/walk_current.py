"""The way of a script with the official client, version 1 or later.

Runs in a venv that has `openai` and nothing of ours. The key and the address come from
OPENAI_API_KEY and OPENAI_BASE_URL, as the client itself reads them.

    python walk_current.py FILE_OF_EXAMPLES
"""

import csv
import io
import json
import os
import sys
import time

import openai
from openai import OpenAI

FINAL = {"succeeded", "failed", "cancelled"}
QUESTION = "What is the capital of Kenya?"

client = OpenAI(timeout=60)


def say(done):
    print(f"  {openai.__version__}: {done}", flush=True)


def main(path):
    file = upload(path)
    job = train(file)
    follow(job)
    model = list_checkpoints(job)
    read_results(job)
    complete(model)
    stream(model)
    chat(model)
    pause_resume_cancel(file)
    list_and_delete(job, model, file)
    be_refused()
    check_message()


def check_message():
    message = json.loads(os.environ["SIGNED_MESSAGE"])
    told = {"headers": message["headers"], "secret": message["secret"]}
    event = client.webhooks.unwrap(message["body"], **told)
    assert (event.type, event.data.id) == ("fine_tuning.job.succeeded", "ftjob-walk")
    try:
        client.webhooks.unwrap(message["body"] + " ", **told)
    except openai.InvalidWebhookSignatureError:
        say("checks the signature of a webhook's message")
    else:
        raise AssertionError("a changed message was taken")


def upload(path):
    with open(path, "rb") as content:
        file = client.files.create(file=content, purpose="fine-tune")
    file = client.files.wait_for_processing(file.id, poll_interval=0.2)
    assert file.status == "processed", file
    assert file.id in [one.id for one in client.files.list(purpose="fine-tune")]
    assert client.files.retrieve(file.id).filename.endswith(".jsonl")
    assert client.files.content(file.id).text.startswith('{"data"')
    say("uploads, lists, reads a file")
    return file


def train(file):
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        validation_file=file.id,
        suffix="walk",
        metadata={"why": "walk"},
        method={"type": "supervised", "supervised": {"hyperparameters": ONE_EPOCH}},
        extra_body={"snapshots_every": 10, "completions_every": 10},
    )
    assert job.status not in FINAL, job
    assert job.metadata == {"why": "walk"}
    assert client.fine_tuning.jobs.list(limit=1).data[0].id == job.id
    say("creates a job")
    return job


ONE_EPOCH = {"n_epochs": 1, "batch_size": "auto", "learning_rate_multiplier": "auto"}


def follow(job):
    """Follows a job as scripts do: asks for the status, then pages through events."""
    job = wait_until(job, FINAL)
    assert job.status == "succeeded", job
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=10))
    steps = [e.data["step"] for e in events if e.data["type"] == "step"]
    assert steps == sorted(set(steps), reverse=True), steps
    assert steps[0] == job.step and steps[-1] == 1, steps
    assert {event.level for event in events} <= {"info", "warn", "error"}
    assert job.fine_tuned_model.startswith("ft:tiny:") and ":walk:" in (
        job.fine_tuned_model
    )
    assert job.trained_tokens > 0
    assert job.hyperparameters.n_epochs == 1
    assert isinstance(job.hyperparameters.batch_size, int)
    say(f"follows {len(events)} events to the end")


def wait_until(job, statuses, seconds=180):
    deadline = time.monotonic() + seconds
    while job.status not in statuses:
        assert time.monotonic() < deadline, job
        time.sleep(0.3)
        job = client.fine_tuning.jobs.retrieve(job.id)
    return job


def list_checkpoints(job):
    """Checks the job's checkpoints. Returns the model's name."""
    job = client.fine_tuning.jobs.retrieve(job.id)
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
    steps = [one.step_number for one in checkpoints]
    assert len(steps) >= 2 and steps[0] == job.step, steps
    for one in checkpoints:
        assert one.fine_tuning_job_id == job.id
        assert one.metrics.train_loss > 0 and one.metrics.valid_loss > 0
        assert client.models.retrieve(one.fine_tuned_model_checkpoint)
    share(checkpoints[0].fine_tuned_model_checkpoint)
    say(f"lists {len(steps)} checkpoints")
    return job.fine_tuned_model


def share(checkpoint):
    """Gives a permission and takes it back, as only administrators may at OpenAI."""
    permissions = client.fine_tuning.checkpoints.permissions
    given = permissions.create(checkpoint, project_ids=["proj_walk"]).data
    assert [one.project_id for one in given] == ["proj_walk"]
    gone = permissions.delete(given[0].id, fine_tuned_model_checkpoint=checkpoint)
    assert gone.deleted


def read_results(job):
    job = client.fine_tuning.jobs.retrieve(job.id)
    table = client.files.content(job.result_files[0]).text
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [int(row["step"]) for row in rows] == list(range(1, job.step + 1))
    assert all(float(row["train_loss"]) > 0 for row in rows)
    say("reads the result file")


def complete(model):
    ask = client.completions.create
    plain = ask(model=model, prompt=QUESTION, max_tokens=8)
    assert plain.object == "text_completion" and plain.choices[0].text
    assert plain.usage.total_tokens == (
        plain.usage.prompt_tokens + plain.usage.completion_tokens
    )

    several = ask(model=model, prompt=[QUESTION, "A"], n=2, max_tokens=4)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]

    best = ask(model=model, prompt=QUESTION, best_of=3, max_tokens=4)
    assert len(best.choices) == 1

    rated = ask(model=model, prompt=QUESTION, logprobs=3, max_tokens=4, temperature=0)
    logprobs = rated.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs)
    assert all(len(top) >= 3 for top in logprobs.top_logprobs)
    assert logprobs.text_offset[0] == len(QUESTION)

    scored = ask(model=model, prompt=QUESTION, echo=True, logprobs=0, max_tokens=0)
    assert scored.choices[0].text == QUESTION
    assert scored.choices[0].logprobs.token_logprobs[0] is None

    whole = ask(model=model, prompt=QUESTION, max_tokens=8, temperature=0)
    text = whole.choices[0].text
    stop = text.strip()[1]
    cut = ask(model=model, prompt=QUESTION, max_tokens=8, temperature=0, stop=stop)
    assert cut.choices[0].text == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    say("completes: plain, n, best_of, logprobs, echo, stop")


def stream(model):
    asked = {"model": model, "prompt": QUESTION, "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**asked)
    chunks = list(
        client.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    say(f"streams {len(chunks)} chunks")


def chat(model):
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 8,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**asked).choices[0].message
    assert whole.role == "assistant"
    chunks = client.chat.completions.create(**asked, stream=True)
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == (whole.content or "")
    say("chats, plain and streaming")


def pause_resume_cancel(file):
    jobs = client.fine_tuning.jobs
    job = jobs.create(
        model="tiny",
        training_file=file.id,
        extra_body={"n_epochs": 200, "completions_every": 0, "snapshots_every": 0},
    )
    wait_until(job, {"running"})
    jobs.pause(job.id)
    job = wait_until(job, {"paused"})
    jobs.resume(job.id)
    wait_until(job, {"running"})
    jobs.cancel(job.id)
    assert wait_until(job, FINAL).status == "cancelled"
    say("pauses, resumes, cancels a job")


def list_and_delete(job, model, file):
    names = [one.id for one in client.models.list()]
    assert "tiny" in names and model in names, names
    assert client.models.delete(model).deleted
    assert_raises(openai.NotFoundError, lambda: client.models.retrieve(model))
    assert client.files.delete(file.id).deleted
    assert_raises(openai.NotFoundError, lambda: client.files.retrieve(file.id))
    say("lists and deletes models and files")


def be_refused():
    create = client.fine_tuning.jobs.create
    error = assert_raises(
        openai.BadRequestError, lambda: create(model="tiny", training_file="file-none")
    )
    assert error.param == "training_file", error
    ask = client.completions.create
    error = assert_raises(openai.NotFoundError, lambda: ask(model="no", prompt="a"))
    assert error.code == "model_not_found", error
    stranger = client.with_options(api_key="wrong")
    assert_raises(openai.AuthenticationError, lambda: stranger.models.list())
    say("is refused in the right words")


def assert_raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


if __name__ == "__main__":
    main(sys.argv[1])
