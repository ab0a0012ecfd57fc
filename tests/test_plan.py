"""The plan is the job."""

import pytest

from jobs.base_models.catalogue import HERE
from jobs.trainer.examples import dump_line
from jobs.trainer.packing import pack
from jobs.trainer.plan import is_due, make_plan, num_times
from jobs.trainer.token_cache import build_token_cache

SETTINGS = {
    "epochs": 3,
    "batch_size": 2,
    "completions_every": 5,
    "num_completions": 2,
    "num_prompts": 3,
    "snapshots_every": 4,
}


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "examples.jsonl"
    path.write_bytes(dump_line([("Once upon a time", 0.0), (" there was", 1.0)]) * 9)
    return build_token_cache(path, HERE / "tiny", tmp_path / "tokens" / "x")


def test_steps_follow_from_rows(cache):
    plan = make_plan(cache, pack(cache.lengths, 16, seed=1), **SETTINGS)
    assert plan["steps_per_epoch"] == -(-plan["rows"] // 2)
    assert plan["total_steps"] == 3 * plan["steps_per_epoch"]


def test_only_tokens_with_a_weight_are_learned(cache):
    plan = make_plan(cache, pack(cache.lengths, 16, seed=1), **SETTINGS)
    assert 0 < plan["learned_tokens"] < plan["tokens"]


def test_seconds_come_from_a_measured_speed(cache):
    plan = make_plan(
        cache, pack(cache.lengths, 16, seed=1), **SETTINGS, tokens_per_second=10.0
    )
    assert plan["seconds"] == pytest.approx(plan["tokens"] * 3 / 10)


@pytest.mark.parametrize(("total", "every"), [(20, 5), (21, 5), (4, 5), (7, 0)])
def test_the_plan_counts_what_the_trainer_does(total, every):
    happens = sum(is_due(step, total, every) for step in range(1, total + 1))
    assert num_times(total, every) == happens
