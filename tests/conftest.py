"""Fixtures that every test file may use."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finetune_site.team.models import Member, Role
from jobs.engines import processes
from tests import factories


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path: Path) -> Iterator[Path]:
    """A data folder of its own for each test. Trainers end with it."""
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    yield settings.DATA_DIR
    end_all_trainers(settings.DATA_DIR)


@pytest.fixture
def stand_in(monkeypatch, data_dir: Path) -> Iterator[Callable[[str], None]]:
    """Instead of trainers, processes that run some code: for what no trainer does."""

    def use(code: str) -> None:
        monkeypatch.setattr(
            processes,
            "trainer_argv",
            lambda folder: [sys.executable, "-c", code, str(folder)],
        )

    yield use
    end_all_trainers(data_dir)


def end_all_trainers(data_dir: Path) -> None:
    for started in data_dir.glob("runs/*/trainer.json"):
        processes.end_trainers(started.parent, force=True)


@pytest.fixture
def admin(db) -> Member:
    return factories.make_member("ada.admin", Role.ADMIN)


@pytest.fixture
def member(db) -> Member:
    return factories.make_member("mia.member", Role.MEMBER)


@pytest.fixture
def viewer(db) -> Member:
    return factories.make_member("vic.viewer", Role.VIEWER)
