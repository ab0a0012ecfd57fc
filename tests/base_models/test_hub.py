"""A model's files are downloaded from a hub, without the site around it."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
import torch
from safetensors.torch import load

from finetune_site.common.errors import UserError
from jobs.base_models import download as downloading
from jobs.base_models import hub as hub_module
from jobs.base_models.download import Download
from jobs.base_models.hub import (
    PIECE_BYTES,
    Hub,
    HubToken,
    HubUnreachableError,
    is_hub_address,
)
from jobs.base_models.model_folder import read_facts
from tests.support.hub_server import HUB_ID, REVISION, running_hub, tiny_files
from tests.support.running_site import ROOT, free_port, wait_for

WEIGHTS = "model.safetensors"
SIZE = len(tiny_files()[WEIGHTS])
PARAMETERS = sum(map(torch.numel, load(tiny_files()[WEIGHTS]).values()))


@pytest.fixture
def hub_server():
    with running_hub() as hub:
        yield hub


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(downloading, "PAUSES_SECONDS", (0.0, 0.0))


def never_ends(bytes_done: int, checking: str) -> None:
    pass


def fetch(hub_server, folder: Path, tick=never_ends, token: str = "") -> Download:
    hub = Hub(hub_server.url, token)
    download = Download(hub, hub.look_up(HUB_ID), folder, tick)
    download.run()
    return download


def refusal(hub_server, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        fetch(hub_server, folder)
    return caught.value.message


# ----- what arrives


def test_all_files_arrive_and_can_be_trained_from(hub_server, tmp_path):
    fetch(hub_server, tmp_path / "m")
    files = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    assert files == tiny_files()
    facts = read_facts(tmp_path / "m")
    assert (facts.parameters, facts.licence) == (PARAMETERS, "cdla-sharing-1.0")


def test_nothing_else_of_a_repository_is_fetched(hub_server, tmp_path):
    others = ("pytorch_model.bin", "modeling.py", "../evil.json", "onnx/model.onnx")
    hub_server.repos[HUB_ID].update(dict.fromkeys(others, b"x"))
    hub_server.repos[HUB_ID]["../model.safetensors"] = b"x"
    fetch(hub_server, tmp_path / "m")
    assert {path.name for path in (tmp_path / "m").iterdir()} == set(tiny_files())
    assert not (tmp_path / "evil.json").exists()


def test_shards_come_with_their_index(hub_server):
    files = hub_server.repos[HUB_ID]
    weights = files.pop(WEIGHTS)
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    files.update(dict.fromkeys(names, weights))
    files["model.safetensors.index.json"] = b"{}"
    chosen = {file.name for file in Hub(hub_server.url).look_up(HUB_ID).files}
    assert {*names, "model.safetensors.index.json"} <= chosen


def test_commit_is_pinned(hub_server, tmp_path):
    fetch(hub_server, tmp_path / "m")
    resolved = [path for path in hub_server.paths if "/resolve/" in path]
    assert all(f"/resolve/{REVISION}/" in path for path in resolved)


def test_token_goes_to_the_hub_alone(hub_server, tmp_path):
    fetch(hub_server, tmp_path / "m", token="secret")
    sent = hub_server.tokens
    assert sent[f"/api/models/{HUB_ID}/revision/main"] == "Bearer secret"
    url = f"{hub_server.foreign_url}/large/{HUB_ID}/{WEIGHTS}"
    requests.get(url, auth=HubToken(hub_server.url, "secret"), timeout=5)
    assert sent[f"/large/{HUB_ID}/{WEIGHTS}"] is None


# ----- going on


def test_killed_in_the_middle_of_a_file_it_goes_on_from_there(hub_server, tmp_path):
    hub_server.pause_seconds = 0.01
    code = (
        "import sys; from pathlib import Path\n"
        "from jobs.base_models.download import Download\n"
        "from jobs.base_models.hub import Hub\n"
        "hub = Hub(sys.argv[1])\n"
        "model = hub.look_up(sys.argv[2])\n"
        "Download(hub, model, Path(sys.argv[3]), lambda *_: None).run()\n"
    )
    part = tmp_path / "m" / f"{WEIGHTS}.part"
    process = subprocess.Popen(
        [sys.executable, "-c", code, hub_server.url, HUB_ID, str(tmp_path / "m")],
        cwd=ROOT,
    )
    wait_for(lambda: part.exists() and part.stat().st_size > SIZE / 3, 30, "a third")
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = part.stat().st_size
    fetch(hub_server, tmp_path / "m")
    assert hub_server.starts == [0, kept]
    assert (tmp_path / "m" / WEIGHTS).read_bytes() == tiny_files()[WEIGHTS]


def test_connection_that_breaks_off_again_and_again_ends_in_a_whole_file(
    hub_server, tmp_path
):
    hub_server.break_after = 3_000_000
    fetch(hub_server, tmp_path / "m")
    assert hub_server.starts == list(range(0, SIZE, 3_000_000))
    # Less than a piece is lost each time.
    assert hub_server.bytes_served < SIZE + 3 * PIECE_BYTES
    assert (tmp_path / "m" / WEIGHTS).read_bytes() == tiny_files()[WEIGHTS]


def test_hub_without_ranges_gives_the_file_anew(hub_server, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / f"{WEIGHTS}.part").write_bytes(b"x" * 1000)
    hub_server.takes_ranges = False
    fetch(hub_server, tmp_path / "m")
    assert (tmp_path / "m" / WEIGHTS).read_bytes() == tiny_files()[WEIGHTS]


def test_two_at_once_do_not_spoil_each_others_file(hub_server, tmp_path):
    fetched = []

    def fetch_again(bytes_done: int, checking: str) -> None:
        if bytes_done > SIZE / 2 and not fetched:
            fetched.append(True)
            fetch(hub_server, tmp_path / "m")

    fetch(hub_server, tmp_path / "m", fetch_again)
    assert (tmp_path / "m" / WEIGHTS).read_bytes() == tiny_files()[WEIGHTS]


def test_file_that_another_task_named_during_the_check_has_arrived(
    hub_server, tmp_path
):
    fetched = []

    def fetch_again(bytes_done: int, checking: str) -> None:
        if checking == WEIGHTS and not fetched:
            fetched.append(True)
            fetch(hub_server, tmp_path / "m")

    fetch(hub_server, tmp_path / "m", fetch_again)
    files = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    assert files == tiny_files()


# ----- what is refused


def test_wrong_digest_deletes_the_file_and_says_so(hub_server, tmp_path):
    hub_server.digests[WEIGHTS] = "0" * 64
    assert f"{WEIGHTS} did not arrive as the hub" in refusal(hub_server, tmp_path / "m")
    assert not list((tmp_path / "m").glob(f"{WEIGHTS}*"))


@pytest.mark.parametrize("name", ["LICENSE.safetensors", "LICENSE.py", "LICENSE-x"])
def test_file_that_only_begins_like_a_licence_is_not_fetched(hub_server, name):
    hub_server.repos[HUB_ID].update({name: b"x", "LICENSE": b"x", "LICENSE.md": b"x"})
    names = {file.name for file in Hub(hub_server.url).look_up(HUB_ID).files}
    assert names == {*tiny_files(), "LICENSE", "LICENSE.md"}


def test_model_of_pickles_is_refused(hub_server, tmp_path):
    files = hub_server.repos[HUB_ID]
    files["pytorch_model.bin"] = files.pop(WEIGHTS)
    assert "no safetensors weights" in refusal(hub_server, tmp_path / "m")


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_model_that_lacks_a_file_is_refused(hub_server, tmp_path, name):
    del hub_server.repos[HUB_ID][name]
    assert f"no {name}" in refusal(hub_server, tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"auto_map": {"AutoModel": "modeling.X"}}, "code of its own"),
        ({"architectures": ["BertForMaskedLM"]}, "does not continue text"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"hidden_size": None}, "does not say hidden_size"),
    ],
)
def test_model_that_cannot_be_trained_is_refused_before_its_weights(
    hub_server, tmp_path, change, words
):
    files = hub_server.repos[HUB_ID]
    config = json.loads(files["config.json"]) | change
    files["config.json"] = json.dumps(config).encode()
    assert words in refusal(hub_server, tmp_path / "m")
    assert hub_server.bytes_served == 0


@pytest.mark.parametrize(
    ("end", "status", "code", "words"),
    [
        ("config.json", 401, "GatedRepo", "accepted its licence"),
        ("config.json", 403, "", "HF_TOKEN"),
        ("revision/main", 401, "RepoNotFound", "there is none, or it is private"),
        ("revision/main", 404, "", "The hub has no team/small"),
        ("README.md", 404, "", "no longer has this version of team/small"),
        ("revision/main", 503, "", "not able to answer now (503)"),
        ("revision/main", 418, "", "does not answer as a model hub does"),
    ],
)
def test_hub_that_refuses(hub_server, tmp_path, end, status, code, words):
    hub_server.refusals[end] = (status, code)
    assert words in refusal(hub_server, tmp_path / "m")


def test_answer_that_is_no_json(hub_server, tmp_path):
    hub_server.refusals["revision/main"] = (200, "")
    assert "whether a proxy answers instead" in refusal(hub_server, tmp_path / "m")


@pytest.mark.parametrize(
    "change",
    [
        {"cardData": "mit"},
        {"siblings": ["x"]},
        {"siblings": {"rfilename": "config.json"}},
        {"siblings": 5},
    ],
)
def test_answer_of_another_shape(hub_server, tmp_path, change):
    answer = hub_server.about(HUB_ID) | change
    hub_server.about = lambda hub_id: answer
    assert "whether a proxy answers instead" in refusal(hub_server, tmp_path / "m")


def test_answer_whose_large_file_has_no_digest(hub_server, tmp_path):
    answer = hub_server.about(HUB_ID)
    del answer["siblings"][-1]["lfs"]["sha256"]
    hub_server.about = lambda hub_id: answer
    assert "whether a proxy answers instead" in refusal(hub_server, tmp_path / "m")


def test_answer_of_a_size_that_no_database_takes(hub_server, tmp_path):
    hub_server.sizes[WEIGHTS] = 10**30
    assert "whether a proxy answers instead" in refusal(hub_server, tmp_path / "m")


def test_tokenizer_that_would_fill_the_memory_is_not_fetched(hub_server, tmp_path):
    hub_server.sizes["tokenizer.json"] = 10**10
    words = refusal(hub_server, tmp_path / "m")
    assert "Its tokenizer.json has 10\u00a0GB, and 128\u00a0MB are the most" in words
    assert not any(path.endswith("tokenizer.json") for path in hub_server.paths)


@pytest.mark.parametrize("config", [b"[" * 100_000, b'{"architectures": {"a": 1}}'])
def test_config_of_another_shape(hub_server, tmp_path, config):
    hub_server.repos[HUB_ID]["config.json"] = config
    assert "whether a proxy answers instead" in refusal(hub_server, tmp_path / "m")


@pytest.mark.alone
def test_answer_that_drips_is_not_waited_for(hub_server, monkeypatch):
    hub_server.drip_seconds = 0.01
    monkeypatch.setattr(hub_module, "LOOK_UP_SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(HubUnreachableError, match="took longer than"):
        Hub(hub_server.url).look_up(HUB_ID)
    assert time.monotonic() - began < 3


def test_no_hub_there():
    with pytest.raises(UserError, match="could not be reached from this machine"):
        Hub(f"http://127.0.0.1:{free_port()}").look_up(HUB_ID)


def test_redirect_to_a_foreign_host_is_not_followed(hub_server, tmp_path):
    foreign = hub_server.url.replace("127.0.0.1", "localhost")
    hub_server.large_files_at = foreign
    assert f"{foreign}, which is no address of the hub" in refusal(
        hub_server, tmp_path / "m"
    )
    assert hub_server.bytes_served == 0


def test_redirect_to_another_port_is_not_followed(hub_server, tmp_path):
    hub_server.large_files_at = hub_server.foreign_url
    assert f"{hub_server.foreign_url}, which is no address of the hub" in refusal(
        hub_server, tmp_path / "m"
    )
    assert hub_server.bytes_served == 0


@pytest.mark.parametrize("location", ["http://[", "https://huggingface.co:99999"])
def test_redirect_that_cannot_be_read_is_refused_in_words(
    hub_server, tmp_path, location
):
    hub_server.large_files_at = location
    assert "an address that cannot be read" in refusal(hub_server, tmp_path / "m")


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://huggingface.co/api/resolve-cache/x", True),
        ("https://cas-bridge.xethub.hf.co/x", True),
        ("https://cdn-lfs-us-1.hf.co/x", True),
        ("http://cdn-lfs.hf.co/x", False),
        ("https://evilhf.co/x", False),
        ("https://huggingface.co.evil.org/x", False),
        ("https://huggingface.co@evil.org/x", False),
        ("http://169.254.169.254/latest", False),
        ("file:///etc/passwd", False),
        ("https://huggingface.co:443/x", True),
        ("https://evil.example\\@huggingface.co/x", False),
        ("https://huggingface.co\\@evil.example/x", False),
        ("https://user:word@huggingface.co/x", False),
        ("https://evil.example;.hf.co/x", False),
        ("https://evil.example%5c.hf.co/x", False),
        (f"https://{'a' * 64}.hf.co/x", False),
        ("https://[::1", False),
        ("https://huggingface.co:99999/x", False),
    ],
)
def test_hosts_that_a_redirect_may_lead_to(url, allowed):
    assert is_hub_address(url, "https://huggingface.co") is allowed


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://hub.local:8080/x", True),
        ("http://hub.local/x", False),
        ("http://hub.local:6379/x", False),
        ("https://hub.local:8080/x", False),
    ],
)
def test_redirect_to_the_endpoints_own_host_keeps_the_port(url, allowed):
    assert is_hub_address(url, "http://hub.local:8080") is allowed


def test_model_larger_than_the_disk_is_refused_before_its_weights(hub_server, tmp_path):
    hub_server.sizes[WEIGHTS] = 10**17
    assert "100,000,000.0\u00a0GB are to come" in refusal(hub_server, tmp_path / "m")
    assert hub_server.bytes_served == 0


def test_disk_that_takes_no_more_ends_the_download(hub_server, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            fetch(hub_server, tmp_path / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    fetch(hub_server, tmp_path / "m")
    assert os.path.getsize(tmp_path / "m" / WEIGHTS) == SIZE
