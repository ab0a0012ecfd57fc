"""How `openai-ft` meets servers that are away, refuse, or are something else."""

import pytest

from jobs.cli.problems import Away, Problem, Refusal
from jobs.cli.server import DEFAULT_URL, clean_url, from_environment
from tests.support import scripted_api
from tests.support.running_site import free_port
from tests.support.scripted_api import BROKEN, error, page


@pytest.fixture
def api():
    with scripted_api.serve() as running:
        yield running


def connect(api, **options):
    env = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": api.url}
    return from_environment(env, **options)


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({}, DEFAULT_URL),
        ({"OPENAI_BASE_URL": "http://a/v1/"}, "http://a/v1"),
        ({"OPENAI_API_BASE": "https://a:9"}, "https://a:9/v1"),
    ],
)
def test_the_address_comes_from_the_environment(env, url):
    assert from_environment({"OPENAI_API_KEY": "k", **env}).url == url


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, "OPENAI_API_KEY is not set"),
        ({"OPENAI_API_KEY": "kéy"}, "characters that no key has"),
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "localhost"}, "write it like"),
    ],
)
def test_what_is_missing_is_said(env, words):
    with pytest.raises(Problem, match=words):
        from_environment(env)


def test_the_key_goes_along(api):
    api.on("GET /files", page())
    connect(api).get("/files")
    assert api.requests[0].headers["authorization"] == "Bearer k"


def test_a_key_in_netrc_does_not_replace_ours(api, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    api.on("GET /files", page())
    connect(api).get("/files")
    assert api.requests[0].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, error("No.")), "does not know the key"),
        ((400, error("max_tokens: too many")), "max_tokens: too many"),
        ((404, b"<html>"), "has to end in /v1"),
        ((200, b"<html>"), "has to end in /v1"),
    ],
)
def test_refusals_are_said_in_words(api, answer, words):
    api.on("GET /files", answer)
    with pytest.raises(Refusal, match=words):
        connect(api).get("/files")


def test_a_server_that_is_away_is_said():
    url = f"http://127.0.0.1:{free_port()}/v1"
    server = from_environment({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": url})
    with pytest.raises(Away, match=r"No answer from .* \(connection refused\)"):
        server.get("/files")


@pytest.mark.parametrize("answer", [BROKEN, (500, error("a fault"))])
def test_faults_may_pass(api, answer):
    api.on("GET /files", answer)
    with pytest.raises(Away):
        connect(api).get("/files")


def test_later_is_waited_for(api):
    later = (503, error("It is loading."), {"retry-after": "0.1"})
    api.on("GET /files", later, later, page(1))
    assert connect(api).get("/files")["data"] == [1]


def test_later_is_not_waited_for_without_end(api):
    later = (503, error("It is loading."), {"retry-after": "60"})
    api.on("GET /files", later)
    with pytest.raises(Away, match="It is loading"):
        connect(api, patience=0.2).get("/files")


def test_later_says_each_reason_once(api):
    loading = (503, error("It is loading."), {"retry-after": "0.1"})
    busy = (429, error("It is busy."), {"retry-after": "0.1"})
    api.on("GET /files", loading, loading, busy, page())
    told = []
    connect(api, on_later=told.append).get("/files")
    assert told == ["It is loading.", "It is busy."]


def test_a_stream_is_read_to_its_end(api):
    # A line end of Unicode, which is none for an event stream.
    stream = 'data: {"a": "x\u2028y"}\n\n: alive\n\ndata: {"a": 2}\n\ndata: [DONE]\n\n'
    api.on("POST /completions", (200, stream.encode()))
    events = connect(api).stream("/completions", {})
    assert [event["a"] for event in events] == ["x\u2028y", 2]


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b'data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
        (b'data: {"a": 1}\n\n', "broke off"),
    ],
)
def test_a_stream_that_ends_early_is_no_answer(api, stream, words):
    api.on("POST /completions", (200, stream))
    with pytest.raises(Away, match=words):
        list(connect(api).stream("/completions", {}))


def test_an_address_without_a_scheme_is_refused():
    with pytest.raises(Problem):
        clean_url("ftp://a/v1")
