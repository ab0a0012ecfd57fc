"""`openai-ft` as people use it: real commands against the real processes."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from jobs.trainer.contract.model_folders import SHIPPED as MODELS
from jobs.trainer.text.encoding import encode_text, load_tokenizer
from tests.support.running_site import ROOT, RunningSite, wait_for

pytestmark = pytest.mark.long

SAMPLES = ROOT / "datasets" / "sample_data"
JOKES = str(SAMPLES / "jokes.jsonl")
VALIDATION = str(SAMPLES / "jokes-validation.jsonl")
COMMAND = Path(sys.executable).with_name("openai-ft")
LONG = ["--num-epochs", "100", "--completions-every", "0", "--snapshots-every", "0"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with RunningSite(tmp_path_factory.mktemp("cli") / "data") as running:
        running.key = running.manage("create_api_key", "admin")
        yield running


@pytest.fixture(autouse=True)
def no_job_left(site):
    """Cancels what a failed test left: a long job would hold up all that follow."""
    yield
    ended = {"succeeded", "failed", "cancelled"}
    jobs = f"{site.url}/v1/fine_tuning/jobs"
    headers = {"Authorization": f"Bearer {site.key}"}
    for job in requests.get(jobs, headers=headers, timeout=60).json()["data"]:
        if job["status"] not in ended:
            requests.post(f"{jobs}/{job['id']}/cancel", headers=headers, timeout=60)


def environment(site):
    address = {"OPENAI_API_KEY": site.key, "OPENAI_BASE_URL": f"{site.url}/v1"}
    return {**os.environ, **address, "COLUMNS": "100", "TERM": "xterm"}


def run(site, *argv):
    return subprocess.run(
        [COMMAND, *argv],
        env=environment(site),
        capture_output=True,
        text=True,
        timeout=180,
    )


class Terminal:
    """A command with a terminal before it, in which somebody can press keys."""

    def __init__(self, site, *argv, on_ctrl_c=signal.SIG_DFL):
        self.screen, inside = pty.openpty()
        self.process = subprocess.Popen(
            [COMMAND, *argv],
            env=environment(site),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            preexec_fn=lambda: take_terminal(inside, on_ctrl_c),
        )
        os.close(inside)
        os.set_blocking(self.screen, False)
        self.shown = ""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        os.close(self.screen)

    def read(self):
        # Nothing new, or nobody writes any more.
        with suppress(OSError):
            self.shown += os.read(self.screen, 65536).decode(errors="replace")
        return self.shown

    def wait_for(self, pattern, seconds=60):
        found = wait_for(
            lambda: re.search(pattern, self.read()), seconds, f"{pattern!r}"
        )
        self.shown = self.shown[found.end() :]

    def press(self, keys):
        os.write(self.screen, keys.encode())

    def press_ctrl_c(self):
        self.press("\x03")
        self.wait_for(r"\[l\]eave the job running")

    def exit_code(self, seconds=60):
        wait_for(
            lambda: self.read() is None or self.process.poll() is not None,
            seconds,
            "its end",
        )
        return self.process.returncode


def take_terminal(inside, on_ctrl_c):
    """Takes the terminal, so that Ctrl-C reaches the command as it does in a shell."""
    import fcntl
    import termios

    fcntl.ioctl(inside, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, on_ctrl_c)


def newest_job(site):
    return json.loads(run(site, "list", "--json", "--limit", "1").stdout)[0]


def test_the_guides_command_line_runs_to_the_end(site):
    """The server may die meanwhile, and is waited for."""
    command = [
        *(COMMAND, "-t", JOKES, "--val", VALIDATION, "-m", "tiny", "-e", "local"),
        *("--num-epochs", "1", "--completions-every", "10", "--num-completions", "1"),
        *("--snapshots-every", "10", "--max-tokens", "256", "--batch-size", "1"),
        *("-s", "1", "-v", "1"),
    ]
    with subprocess.Popen(
        command, env=environment(site), stdout=subprocess.PIPE, text=True
    ) as process:
        first = next(line for line in process.stdout if line.startswith("Step "))
        os.kill(site.pid("web"), signal.SIGKILL)
        said = first + process.stdout.read()
    assert process.returncode == 0, said
    assert re.search(r"^Step \d+ of 27, train loss \d\.\d\d", said, re.M)
    assert re.search(r"^Step 10: <joke> → \w", said, re.M)
    snapshots = re.findall(r"^Created snapshot (tiny:\S+)", said, re.M)
    assert len(snapshots) == 3
    answer = run(site, "complete", snapshots[-1], "<joke>", "--max-tokens", "8")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip()


@pytest.fixture(scope="module")
def guide_text(tmp_path_factory):
    """Writes a file of exactly 16,384 tokens for tiny, in one example."""
    folder = MODELS / "tiny"
    text = " one" * 16_384
    assert len(encode_text(load_tokenizer(folder), text)) == 16_384
    path = tmp_path_factory.mktemp("guide") / "guide.jsonl"
    path.write_text(json.dumps({"data": text}))
    return str(path)


@pytest.mark.parametrize(("batch_size", "steps"), [("1", 8), ("2", 4)])
def test_the_guides_arithmetic(site, guide_text, batch_size, steps):
    flags = ["-t", guide_text, "--max-tokens", "2048", "--batch-size", batch_size]
    table = run(site, *flags, "--plan")
    assert re.search(rf"^steps an epoch +{steps}$", table.stdout, re.M), table
    plan = json.loads(run(site, *flags, "--plan", "--json").stdout)
    assert (plan["tokens"], plan["rows"]) == (16_384, 8)
    assert plan["steps_per_epoch"] == steps


def test_ctrl_c_leaves_the_job_and_later_cancels_it(site):
    with Terminal(site, "-t", JOKES, *LONG) as terminal:
        # Which step is drawn is up to the moment.
        terminal.wait_for(r"Step [1-9]\d* of 2,700")
        terminal.press_ctrl_c()
        terminal.press("l\n")
        assert terminal.exit_code() == 130
    job = newest_job(site)
    # A second Ctrl-C leaves too, also where the parent ignored Ctrl-C, as under `nohup`
    # in a script.
    for on_ctrl_c in (signal.SIG_DFL, signal.SIG_IGN):
        with Terminal(site, "--follow", job["id"], on_ctrl_c=on_ctrl_c) as terminal:
            terminal.wait_for("of 2,700")
            terminal.press_ctrl_c()
            terminal.press("\x03")
            assert terminal.exit_code() == 130
        assert newest_job(site)["status"] == "running"
    with Terminal(site, "--follow", job["id"]) as terminal:
        terminal.wait_for("of 2,700")
        terminal.press_ctrl_c()
        terminal.press("g\n")
        terminal.wait_for("of 2,700")
        terminal.press_ctrl_c()
        terminal.press("c\n")
        assert terminal.exit_code() == 3
    assert newest_job(site)["status"] == "cancelled"


def test_a_wrong_key_is_said(site):
    environ = {**environment(site), "OPENAI_API_KEY": "sk-wrong"}
    done = subprocess.run(
        [COMMAND, "list"], env=environ, capture_output=True, text=True
    )
    assert done.returncode == 4
    assert "does not know the key in OPENAI_API_KEY" in done.stderr
