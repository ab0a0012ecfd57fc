from jobs.new_job.suggest import suggest_settings
from jobs.selectors.sources import model_source
from jobs.trainer.contract.settings import LORA
from tests.support import factories

JOKE = "Why did the tomato blush? Because it saw the salad dressing behind the door."


def make_version(num_examples: int, text: str = JOKE):
    examples = [[(f"{number} {text}", 1.0)] for number in range(num_examples)]
    return factories.make_dataset(examples=examples)


def test_a_usual_file_gets_the_models_defaults(db):
    settings = suggest_settings(make_version(300), "tiny")
    assert (settings["max_tokens"], settings["batch_size"]) == (256, 1)
    assert (settings["completions_every"], settings["snapshots_every"]) == (10, 20)
    assert (settings["method"], settings["learning_rate_scale"]) == ("full", 1.0)


def test_a_small_file_gets_shorter_rows_so_that_it_makes_steps(db):
    settings = suggest_settings(make_version(60), "tiny")
    assert settings["max_tokens"] == 64


def test_rows_stay_long_enough_for_common_examples(db):
    settings = suggest_settings(make_version(10, JOKE * 5), "tiny")
    assert settings["max_tokens"] == 128


def test_a_long_text_that_is_cut_anyway_may_be_cut_short(db):
    settings = suggest_settings(make_version(1, JOKE * 100), "tiny")
    assert settings["max_tokens"] < 256


def test_a_large_file_takes_more_rows_a_step_and_fewer_snapshots(db):
    version = make_version(300)
    version.num_examples = 100_000
    settings = suggest_settings(version, "tiny")
    assert settings["batch_size"] > 1
    assert settings["snapshots_every"] > 20


def test_suggestions_need_no_downloaded_model(db):
    assert suggest_settings(make_version(300), "davinci")["method"] == "lora"


def test_the_source_of_a_whole_model_is_its_own_folder(db):
    snapshot = factories.make_snapshot(factories.make_job())
    source = model_source("tiny", snapshot)
    assert (source.path, source.adapter_path) == (str(snapshot.folder), None)


def test_an_adapter_lies_over_what_its_job_started_from(db):
    whole = factories.make_snapshot(factories.make_job())
    first = factories.make_job(method=LORA, parent_snapshot=whole)
    adapter = factories.make_snapshot(first)
    second = factories.make_job(method=LORA, parent_snapshot=adapter)
    newer = factories.make_snapshot(second)
    source = model_source("tiny", newer)
    assert (source.path, source.adapter_path) == (str(whole.folder), str(newer.folder))
