"""Fixtures that every test file may use."""

from pathlib import Path

import pytest

from finetune_site.team.models import Member, Role
from tests import factories


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path: Path) -> Path:
    """A data folder of its own for each test."""
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    return settings.DATA_DIR


@pytest.fixture
def admin(db) -> Member:
    return factories.make_member("ada.admin", Role.ADMIN)


@pytest.fixture
def member(db) -> Member:
    return factories.make_member("mia.member", Role.MEMBER)


@pytest.fixture
def viewer(db) -> Member:
    return factories.make_member("vic.viewer", Role.VIEWER)
