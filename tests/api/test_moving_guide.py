"""The guide for those who move here says what the code does."""

import re
from pathlib import Path

import pytest
from django.conf import settings

from jobs.api.job_request import JobRequest
from jobs.cli.arguments import train_parser
from jobs.cli.creation import job_body
from jobs.cli.training import FLAGS

ROOT = Path(settings.BASE_DIR)
OPENAI_FIELDS = {
    "model",
    "training_file",
    "validation_file",
    "suffix",
    "seed",
    "metadata",
    "hyperparameters",
    "n_epochs",
    "batch_size",
    "learning_rate_multiplier",
}


@pytest.fixture
def guide():
    return (ROOT / "docs" / "moving-from-openai.md").read_text(encoding="utf-8")


def test_our_own_fields_are_all_in_its_table(guide):
    table = guide.partition("## Fields of our own")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", table, re.M)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named == set(JobRequest.model_fields) - OPENAI_FIELDS


def test_it_names_the_versions_that_are_walked(guide):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    walked = re.search(r"^CLIENT_VERSIONS := (.+)$", makefile, re.M)
    first, second, third = walked[1].split()
    assert f"Versions {first}, {second} and {third} of the package" in guide


def test_the_command_line_sends_what_the_api_reads():
    args = train_parser().parse(
        ["-t", "a", "-e", "b", "--num-epochs", "1", "--batch-size", "1", "-s", "1"]
        + ["--max-tokens", "8", "--completions-every", "1", "--num-completions", "1"]
        + ["--snapshots-every", "1", "--prompt", "c", "--lora"]
    )
    body = job_body(args, "file-a", "file-b")
    assert body.keys() == FLAGS.keys()
    assert body.keys() <= JobRequest.model_fields.keys()
