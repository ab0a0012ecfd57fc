"""`openai-ft complete` against a server that answers as written down."""

import pytest

from jobs.cli import completing
from jobs.cli.main import run
from jobs.cli.problems import Away, Problem
from tests.support import scripted_api
from tests.support.scripted_api import error, page

AWAY = (503, error("Engine big does not answer."), {"retry-after": "0.1"})


@pytest.fixture
def api(monkeypatch):
    with scripted_api.serve() as running:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        running.on("GET /models", page({"id": "tiny"}, {"id": "x", "parent": "tiny"}))
        yield running


@pytest.mark.parametrize("flags", [[], ["-n", "2"]])
def test_an_engine_that_stays_away_ends_it_in_its_words(
    api, capsys, monkeypatch, flags
):
    monkeypatch.setattr(completing, "PATIENCE_SECONDS", 0.3)
    api.on("POST /completions", AWAY)
    with pytest.raises(Away, match="Engine big does not answer") as end:
        run(["complete", "tiny:a", "hi", *flags])
    assert end.value.exit_code == 4
    assert capsys.readouterr().err.count("Engine big does not answer.\nTrying") == 1


def test_an_engine_that_comes_back_answers(api, capsys):
    stream = b'data: {"choices": [{"text": " ho"}]}\n\ndata: [DONE]\n\n'
    api.on("POST /completions", AWAY, (200, stream))
    assert run(["complete", "tiny:a", "hi"]) == 0
    assert capsys.readouterr().out == " ho\n"


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((404, error("no", "model", "model_not_found")), r"There is no model ada\."),
        ((400, error("ada is not on this machine.", "model")), "ada is not on this"),
    ],
)
def test_a_model_that_is_not_there_is_answered_with_those_that_are(api, refusal, words):
    api.on("POST /completions", refusal)
    with pytest.raises(Problem, match=rf"{words}.* Base models there: tiny\."):
        run(["complete", "ada", "hi"])
