"""Who may import what, seen in fresh processes."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

HEAVY = ("torch", "transformers", "peft")
SITE = """
import django, os
os.environ["DJANGO_SETTINGS_MODULE"] = "finetune_site.settings"
django.setup()
"""
EVERY_PART_OF_THE_SITE = (
    SITE + "import finetune_site.asgi, finetune_site.urls, datasets.tasks, jobs.tasks\n"
    "import jobs.management.commands.watch_jobs\n"
    "from django.urls import get_resolver\n"
    "get_resolver().url_patterns\n"
)
# The files that say so of themselves; see docs/trainer.md.
CONTRACT = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "jobs").rglob("*.py")
    if path.read_text(encoding="utf-8").startswith('"""[contract]')
)


def loaded_by(code, tmp_path):
    """Returns the modules that a fresh process has loaded after that code."""
    code += "\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"FINETUNE_DATA_DIR": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_site_loads_no_torch(tmp_path):
    assert not loaded_by(EVERY_PART_OF_THE_SITE, tmp_path).intersection(HEAVY)


def test_many_files_are_of_the_contract():
    assert len(CONTRACT) > 20


@pytest.mark.parametrize("module", CONTRACT)
def test_contract_files_load_neither_torch_nor_django(module, tmp_path):
    loaded = loaded_by(f"import {module}", tmp_path)
    assert not loaded.intersection((*HEAVY, "django"))


@pytest.mark.parametrize("module", ["jobs.trainer.run", "jobs.serving.app"])
def test_trainer_and_model_server_load_no_django(module, tmp_path):
    assert "django" not in loaded_by(f"import {module}", tmp_path)


def test_the_command_line_loads_nothing_heavy(tmp_path):
    code = "from jobs.cli import completing, listing, main, preparing, training"
    assert not loaded_by(code, tmp_path).intersection((*HEAVY, "django", "numpy"))


def test_a_help_page_waits_for_no_library(tmp_path):
    loaded = loaded_by("import jobs.cli.main", tmp_path)
    assert not loaded.intersection(("requests", "rich", "orjson"))
