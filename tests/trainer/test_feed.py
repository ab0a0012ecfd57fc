"""A step gets the same rows, whether they are made in time or one step ahead."""

import threading
from dataclasses import astuple

import pytest
import torch

from jobs.trainer.compute.batches import find_learned
from jobs.trainer.contract.runfolder import Numerics
from jobs.trainer.contract.spec import Spec
from jobs.trainer.feed import Feed
from jobs.trainer.prepare import open_data
from jobs.trainer.processes.ranks import Ranks
from tests.support.training import make_run

NUMERICS = Numerics(threads=1, dtype="float32", compile=False, micro_batch=2)


@pytest.fixture
def make_feed(tmp_path):
    spec = Spec.load(make_run(tmp_path / "run", batch_size=3, epochs=2).spec)
    data = open_data(spec.train, spec, Ranks())

    def make(*, ahead):
        return Feed(spec, NUMERICS, Ranks(), *data, ahead=ahead)

    return make


def inputs(rows):
    return [batch.inputs.tolist() for batch in rows.batches]


def test_one_step_ahead_gives_the_same_rows(make_feed):
    now, ahead = make_feed(ahead=False), make_feed(ahead=True)
    assert now.total_steps > now.steps_per_epoch > 1
    for step in range(1, now.total_steps + 1):
        assert inputs(ahead.take(step)) == inputs(now.take(step))


def test_a_step_that_was_not_expected_has_its_own_rows(make_feed):
    now, ahead = make_feed(ahead=False), make_feed(ahead=True)
    ahead.take(1)
    assert inputs(ahead.take(3)) == inputs(now.take(3))


def test_the_next_step_is_made_in_a_thread(make_feed, monkeypatch):
    feed = make_feed(ahead=True)
    real, threads = feed._make, []
    monkeypatch.setattr(
        feed,
        "_make",
        lambda step: threads.append(threading.current_thread()) or real(step),
    )
    feed.take(1)
    feed.take(2)
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()


def test_tokens_and_learned_tokens_are_counted(make_feed):
    rows = make_feed(ahead=False).take(1)
    assert rows.num_tokens == sum(batch.num_tokens for batch in rows.batches)
    weights = [(batch.weights > 0).sum().item() for batch in rows.batches]
    assert rows.num_learned == sum(weights) < rows.num_tokens


def test_learned_positions_are_those_of_a_mask():
    weights = torch.tensor([[0, 0.5, 0, 1], [0, 0, 0, 2], [0, 3, 0, 0]])
    values = torch.arange(12).view(3, 4)
    tokens, columns, in_columns = astuple(find_learned(weights))
    assert values.flatten()[tokens].equal(values[weights > 0])
    assert columns.tolist() == [1, 3]
    assert values[:, columns].flatten()[in_columns].equal(values[weights > 0])
