"""The facts that are kept about each example are those of its line."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.reading.alike import alike
from datasets.reading.batches import ImportBatch
from datasets.stored import columns as module
from datasets.stored.columns import OTHER, ColumnsWriter, columns_of
from datasets.stored.files import ExamplesWriter

segments = st.tuples(st.sampled_from(["a", "bé", "c\n", ""]), st.sampled_from([0, 0.5]))
example = st.lists(segments, min_size=1, max_size=3)
batches = st.lists(st.lists(example, max_size=4), max_size=4)


def written(path, batches):
    """Writes the batches as a version, and returns its columns."""
    writer = ColumnsWriter(path)
    with ExamplesWriter(path) as examples:
        for given_examples in batches:
            batch = ImportBatch(0)
            for one in given_examples:
                batch.add(one)
            examples.add(batch.content())
            writer.add(batch, alike(batch))
        examples.publish()
    return writer.publish()


@settings(deadline=None)
@given(batches)
def test_columns_say_what_each_example_is(tmp_path_factory, batches):
    path = tmp_path_factory.mktemp("version") / "examples.jsonl"
    made = written(path, batches)
    examples = [one for batch in batches for one in batch]
    assert list(made.characters) == [sum(len(t) for t, _ in one) for one in examples]
    weights = [tuple(weight for _, weight in one) for one in examples]
    assert [made.patterns[number] for number in made.pattern] == weights
    assert list(made.first_equal) == [examples.index(one) for one in examples]
    assert made.num_repeated == len(examples) - len({str(one) for one in examples})


def test_columns_that_are_missing_are_made_from_the_examples(tmp_path):
    path = tmp_path / "examples.jsonl"
    made = written(path, [[[("a", 1.0)], [("b", 0.5), ("c", 1.0)], [("a", 1.0)]]])
    for file in (tmp_path / "columns").iterdir():
        file.unlink()
    (tmp_path / "columns").rmdir()
    again = columns_of(path)
    assert list(again.first_equal) == list(made.first_equal) == [0, 1, 0]
    assert again.patterns == made.patterns
    assert np.array_equal(again.characters, made.characters)


def test_weights_beyond_the_limit_are_told_as_others(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_PATTERNS", 2)
    monkeypatch.setattr(module, "OTHER", 2)
    rows = [[("a", weight)] for weight in (0.1, 0.2, 0.3, 0.1)]
    made = written(tmp_path / "examples.jsonl", [rows])
    assert list(made.pattern) == [0, 1, 2, 0]
    assert OTHER > 2


def test_lines_of_one_hash_that_differ_are_not_equal(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "hash", lambda line: 7, raising=False)
    rows = [[(text, 1.0)] for text in "abab"]
    made = written(tmp_path / "examples.jsonl", [rows])
    assert list(made.first_equal) == [0, 1, 0, 1]
