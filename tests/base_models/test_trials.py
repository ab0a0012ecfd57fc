"""Base models that were added are tried, and only then are they ready."""

import json
import shutil

import pytest
from django.urls import reverse
from django_q.brokers import get_broker

from finetune_site.common.errors import UserError
from jobs.base_models.registry import broken_folders
from jobs.new_job.creation import check_model
from jobs.selectors.base_models import get_base_model
from jobs.services import model_trials
from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.model_trial import try_model
from tests.support import factories
from tests.support.training import make_small_model


@pytest.fixture
def models_dir(data_dir):
    (data_dir / "models").mkdir()
    return data_dir / "models"


@pytest.fixture
def good(models_dir):
    make_small_model(models_dir / "good")
    return models_dir / "good"


@pytest.fixture
def run_instead(monkeypatch):
    """Lets the process of a trial run some code."""

    def run(code):
        monkeypatch.setattr(model_trials, "TRIAL_ARGV", ["-c", code])

    return run


def change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values))


def is_ready(name, models_dir):
    return get_base_model(name).is_ready(models_dir)


def test_a_model_is_ready_once_it_was_tried(db, models_dir, good):
    odd = shutil.copytree(good, models_dir / "odd")
    change_config(odd, rms_norm_eps="small")
    assert model_trials.ask_for_trials()
    # Once is enough.
    assert not model_trials.ask_for_trials()
    assert get_broker().queue_size() == 1
    assert set(model_trials.models_on_trial()) == {good, odd}
    assert not is_ready("good", models_dir)
    model_trials.try_models()
    assert is_ready("good", models_dir)
    [broken] = broken_folders(models_dir)
    assert broken.name == "odd"
    assert "It was tried and does not work" in broken.fault
    assert model_trials.models_on_trial() == []


def test_replaced_files_are_tried_anew(good, models_dir):
    factories.mark_tried(good)
    assert is_ready("good", models_dir)
    change_config(good, rms_norm_eps=1e-5)
    assert not is_ready("good", models_dir)
    assert model_trials.models_on_trial() == [good]


def test_what_ships_is_ready_at_once(models_dir):
    assert is_ready("tiny", models_dir)


def test_a_trial_that_somebody_ends_says_nothing(good, run_instead):
    run_instead("import os; os.kill(os.getpid(), 9)")
    model_trials.try_and_keep(good)
    assert model_trials.models_on_trial() == [good]


def test_a_trial_that_falls_over_is_told(good, models_dir, run_instead):
    run_instead("import os; os.abort()")
    model_trials.try_and_keep(good)
    [broken] = broken_folders(models_dir)
    assert "ended the process (exit code -6)" in broken.fault


def test_a_trial_without_end_is_told(good, models_dir, run_instead, monkeypatch):
    run_instead("import time; time.sleep(60)")
    monkeypatch.setattr(model_trials, "TRIAL_SECONDS", 1)
    model_trials.try_and_keep(good)
    [broken] = broken_folders(models_dir)
    assert "and came to no end" in broken.fault


def test_the_page_and_a_job_say_that_it_is_being_tried(client, member, good):
    client.force_login(member)
    assert "Being tried" in client.get(reverse("models")).content.decode()
    job = factories.make_job(factories.make_dataset(), base_model="good")
    with pytest.raises(UserError, match="good is being tried"):
        check_model(job)


def test_results_of_models_that_left_are_forgotten(good, models_dir):
    factories.mark_tried(good)
    shutil.rmtree(good)
    model_trials.try_models()
    assert list((models_dir / ".trials").glob("*.json")) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"intermediate_size": 10**9}, "describes"),
        ({"hidden_act": "sine"}, "does not work"),
        ({"rms_norm_eps": -1.0}, "infinite or no number"),
        ({"num_attention_heads": 7}, "does not work|other sizes"),
        ({"vocab_size": 9}, "other sizes"),
    ],
)
def test_what_a_trial_finds(tmp_path, changes, words):
    make_small_model(tmp_path / "small")
    change_config(tmp_path / "small", **changes)
    fault = try_model(tmp_path / "small")
    assert any(word in fault for word in words.split("|")), fault


def test_the_model_that_ships_works():
    assert try_model(SHIPPED / "tiny") == ""
