"""A trainer says at its start what it learns from."""

import numpy as np
import pytest

from jobs.trainer.contract.events import EventWriter, read_events
from jobs.trainer.contract.runfolder import Numerics
from jobs.trainer.greeting import say_hello
from jobs.trainer.rows.packing import pack
from jobs.trainer.rows.token_cache import CacheFacts


@pytest.mark.parametrize(
    ("lengths", "words"), [([60], "in 1 row of 64;"), ([60, 60], "in 2 rows of 64;")]
)
def test_a_trainer_counts_its_rows(tmp_path, lengths, words):
    path = tmp_path / "events.jsonl"
    facts = CacheFacts(
        examples=len(lengths),
        targets=sum(lengths),
        learned_targets=sum(lengths),
        unlearned_examples=0,
    )
    numerics = Numerics(threads=1, dtype="float32", compile=False, micro_batch=1)
    packing = pack(np.array(lengths), 64, seed=1)
    say_hello(EventWriter(path), numerics, facts, packing, step=0)
    log = next(event for event in read_events(path)[0] if event["type"] == "log")
    assert words in log["message"]
