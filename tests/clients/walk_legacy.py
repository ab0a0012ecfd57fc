"""The way of a script with the official client before version 1.

Runs in a venv that has `openai==0.28.1` and nothing of ours. The key and the address
come from OPENAI_API_KEY and OPENAI_API_BASE, as the client itself reads them.

    python walk_legacy.py FILE_OF_EXAMPLES
"""

import sys
import time

import openai

FINAL = {"succeeded", "failed", "cancelled"}
QUESTION = "What is the capital of Kenya?"


def say(done):
    print(f"  {openai.version.VERSION}: {done}", flush=True)


def main(path):
    file = upload(path)
    model = train_as_before(file)
    job, snapshot = train(file)
    complete_as_in_the_guide(snapshot)
    complete(model)
    chat(model)
    cancel(file)
    list_and_delete(model, job, file)
    be_refused()


def upload(path):
    with open(path, "rb") as content:
        file = openai.File.create(file=content, purpose="fine-tune")
    while openai.File.retrieve(file.id).status == "uploaded":
        time.sleep(0.2)
    assert openai.File.retrieve(file.id).status == "processed"
    assert file.id in [one.id for one in openai.File.list().data]
    assert openai.File.download(file.id).startswith(b'{"data"')
    say("uploads, lists, reads a file")
    return file


def train_as_before(file):
    """Trains by the old calls. Returns the name of the model that comes out."""
    tune = openai.FineTune.create(
        training_file=file.id,
        model="tiny",
        n_epochs=1,
        batch_size=1,
        prompt_loss_weight=0.1,
        suffix="before",
    )
    assert tune.object == "fine-tune" and tune.hyperparams.prompt_loss_weight == 0.1
    told = [event.message for event in openai.FineTune.stream_events(tune.id)]
    assert len(told) > 1, told
    tune = openai.FineTune.retrieve(tune.id)
    assert tune.status == "succeeded", tune
    listed = openai.FineTune.list_events(tune.id).data
    assert [event.message for event in listed] == told
    assert tune.training_files[0].id.startswith("file-")
    assert tune.id in [one.id for one in openai.FineTune.list().data]
    say(f"fine-tunes as before, streaming {len(told)} events")
    return tune.fine_tuned_model


def train(file):
    """Trains by the later calls. Returns the job and its last snapshot."""
    job = openai.FineTuningJob.create(
        training_file=file.id,
        model="tiny",
        hyperparameters={"n_epochs": 1},
        suffix="later",
    )
    job = wait_until(job, FINAL)
    assert job.status == "succeeded", job
    seqs, after = [], None
    while True:
        page = openai.FineTuningJob.list_events(job.id, limit=50, after=after)
        seqs += [event.data["seq"] for event in page.data]
        if not page.has_more:
            break
        after = page.data[-1].id
    assert seqs == list(range(len(seqs), 0, -1)), seqs
    assert job.id in [one.id for one in openai.FineTuningJob.list().data]
    say(f"runs a job and pages through {len(seqs)} events")
    return job, job.last_snapshot


def wait_until(job, statuses, seconds=180):
    deadline = time.monotonic() + seconds
    while job.status not in statuses:
        assert time.monotonic() < deadline, job
        time.sleep(0.3)
        job = openai.FineTuningJob.retrieve(job.id)
    return job


def complete_as_in_the_guide(snapshot):
    """Runs the guide's three lines, with only the names set before them."""
    engine = "local"
    model = snapshot
    prompt = QUESTION

    response = openai.Completion.create(engine=engine, model=model, prompt=prompt)
    assert response["choices"][0]["text"]
    assert response["model"] == model
    say("completes as in the guide")


def complete(model):
    ask = openai.Completion.create
    plain = ask(model=model, prompt=QUESTION, max_tokens=8, timeout=60)
    assert plain.choices[0].text and plain.usage.completion_tokens > 0

    assert ask(engine="tiny", prompt="Once", max_tokens=4).choices[0].text

    several = ask(model=model, prompt=QUESTION, n=3, max_tokens=4)
    assert [choice.index for choice in several.choices] == [0, 1, 2]

    rated = ask(model=model, prompt=QUESTION, logprobs=2, max_tokens=4)
    assert len(rated.choices[0].logprobs.top_logprobs) >= 1

    scored = ask(model=model, prompt=QUESTION, echo=True, logprobs=0, max_tokens=0)
    assert scored.choices[0].text == QUESTION
    assert scored.choices[0].logprobs.token_logprobs[0] is None

    asked = {"model": model, "prompt": QUESTION, "max_tokens": 8, "temperature": 0}
    text = ask(**asked).choices[0].text
    stop = text.strip()[1]
    assert ask(**asked, stop=[stop]).choices[0].text == text[: text.index(stop)]

    streamed = [chunk.choices[0].text for chunk in ask(**asked, stream=True)]
    assert "".join(streamed) == text
    say("completes: plain, engine, n, logprobs, echo, stop, stream")


def chat(model):
    messages = [{"role": "user", "content": QUESTION}]
    answer = openai.ChatCompletion.create(model=model, messages=messages, max_tokens=8)
    assert answer.choices[0].message.role == "assistant"
    say("chats")


def cancel(file):
    tune = openai.FineTune.create(training_file=file.id, model="tiny", n_epochs=200)
    assert openai.FineTune.cancel(tune.id).id == tune.id
    while openai.FineTune.retrieve(tune.id).status not in FINAL:
        time.sleep(0.3)
    assert openai.FineTune.retrieve(tune.id).status == "cancelled"
    job = openai.FineTuningJob.create(training_file=file.id, model="tiny")
    wait_until(job, {"running"})
    openai.FineTuningJob.cancel(job.id)
    assert wait_until(job, FINAL).status == "cancelled"
    say("cancels, before and in its course")


def list_and_delete(model, job, file):
    names = [one.id for one in openai.Model.list().data]
    assert "tiny" in names and model in names, names
    assert openai.Model.retrieve(model).id == model
    assert "local" in [one.id for one in openai.Engine.list().data]
    assert openai.Engine.retrieve("local").id == "local"
    assert openai.Model.delete(model).deleted
    assert openai.Model.delete(job.fine_tuned_model).deleted
    assert_raises(
        openai.error.InvalidRequestError, lambda: openai.Model.retrieve(model)
    )
    assert openai.File.delete(file.id).deleted
    say("lists and deletes models, engines, files")


def be_refused():
    ask = openai.Completion.create
    refused = openai.error.InvalidRequestError
    error = assert_raises(refused, lambda: ask(model="no", prompt="a"))
    assert error.http_status == 404, error
    stranger = {"api_key": "wrong", "model": "tiny", "prompt": "a"}
    assert_raises(openai.error.AuthenticationError, lambda: ask(**stranger))
    say("is refused in the right words")


def assert_raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


if __name__ == "__main__":
    main(sys.argv[1])
