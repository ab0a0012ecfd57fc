"""The page about the architecture names what there is."""

import re

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
# `folder/file.py`, `folder/file.py:name` or `folder/`.
NAMED = sorted(set(re.findall(r"`([\w.-]+/[\w./-]*(?::\w+)?)`", PAGE)))
FOLDERS_WITHIN = ("jobs", "jobs/trainer", "jobs/base_models", "finetune_site", ".")
TOP_FOLDERS = ("finetune_site", "jobs", "datasets", "tests", "templates", "static")


def lies_somewhere(path: str) -> bool:
    return any((ROOT / folder / path).exists() for folder in FOLDERS_WITHIN)


def test_the_page_names_many_things():
    assert len(NAMED) > 60


@pytest.mark.parametrize("named", NAMED)
def test_every_file_and_every_name_in_it_exists(named):
    path, _, name = named.partition(":")
    assert lies_somewhere(path), path
    if name:
        code = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?(def|class) {name}\b", code, re.M), named


def test_every_folder_of_jobs_has_its_line():
    folders = {
        path.name
        for path in (ROOT / "jobs").iterdir()
        if path.is_dir() and path.name not in {"__pycache__", "migrations"}
    }
    assert {name for name in folders if f"`{name}/`" not in PAGE} == set()


@pytest.mark.parametrize("top", TOP_FOLDERS)
def test_no_folder_is_crowded(top):
    """A folder of more files is one whose subject is too wide."""
    crowded = {
        str(folder.relative_to(ROOT)): num_files
        for folder in [ROOT / top, *(ROOT / top).rglob("*")]
        if folder.is_dir() and folder.name != "__pycache__"
        if (num_files := sum(path.is_file() for path in folder.iterdir())) > 25
    }
    assert crowded == {}
