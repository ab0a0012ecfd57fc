"""The fast way through the importer says what parse_line says."""

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.reading.batches import read_jsonl
from jobs.trainer.text.examples import ExampleError, parse_line

texts = st.one_of(st.text(max_size=4), st.integers(0, 9), st.none())
edges = st.sampled_from([1e-7, 1e-6, 100, 101])
weights = st.one_of(
    st.floats(), edges, st.booleans(), st.integers(-1, 2), st.text(max_size=1)
)
examples = st.fixed_dictionaries(
    {
        "text_list": st.one_of(st.lists(texts, max_size=3), st.text(max_size=3)),
        "loss_weights": st.one_of(st.lists(weights, max_size=3), st.text(max_size=3)),
    },
    optional={"other": st.none()},
)
lines = st.lists(
    st.one_of(
        st.fixed_dictionaries({"data": examples}, optional={"more": st.none()}),
        st.sampled_from(
            [
                {"data": "a"},
                {"data": ""},
                {"data": {"text_list": ["a", "b"]}},
                {"data": {"text_list": ["", ""]}},
            ]
        ),
        st.just({"data": {"text_list": ["a", "b"], "loss_weights": [0, 1]}}),
    ).map(orjson.dumps),
    max_size=5,
)


@settings(deadline=None)
@given(lines)
def test_the_same_lines_pass_with_the_same_segments(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("fast") / "upload.bin"
    path.write_bytes(b"\n".join(lines))
    batches = list(read_jsonl(path))
    good = [parse_line(line) for batch in batches for line in batch.lines]
    refused = [problem.line for batch in batches for problem in batch.problems]
    expected = [parse(line) for line in lines]
    assert good == [segments for segments in expected if segments]
    assert refused == [at for at, found in enumerate(expected, start=1) if not found]


def parse(line):
    try:
        return parse_line(line)
    except ExampleError:
        return None
