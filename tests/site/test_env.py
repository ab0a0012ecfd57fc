"""A setting that cannot be used stops the start with one line."""

import subprocess
import sys

import pytest

from finetune_site.common.errors import UserError
from finetune_site.processes import addresses
from tests.support.running_site import ROOT, environment


def start(data_dir, **variables):
    return subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=ROOT,
        env={**environment(data_dir), "PORT": "0", **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "abc", "PORT=abc: say a whole number."),
        ("DATABASE_URL", "nonsense", "is no address of a database"),
        ("DATABASE_URL", "postgres://a:pass@b:port/c", "is no address of a database"),
    ],
)
def test_a_wrong_value_is_answered_in_one_line(tmp_path, name, value, words):
    ended = start(tmp_path, **{name: value})
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "pass@" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_data_folder_that_is_a_file_is_named(tmp_path, below):
    file = tmp_path / "file"
    file.touch()
    ended = start(file / below)
    assert ended.returncode == 1
    assert f"The data folder {file / below} cannot be used" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("port", [-5, 65536, 99999])
def test_a_port_that_does_not_exist_is_refused(port):
    with pytest.raises(UserError, match=f"There is no port {port}"):
        addresses.listen("127.0.0.1", port)
