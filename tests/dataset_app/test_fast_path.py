"""The fast ways through the importer say what `read_line` says of each line."""

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from datasets.reading.batches import read_jsonl
from jobs.trainer.text.examples import ExampleError, dump_line, parse_line
from jobs.trainer.text.line_forms import read_line

FINE = '{"data": {"text_list": ["a", "b"], "loss_weights": [0.1, 1]}}'
texts = st.one_of(st.text(max_size=4), st.integers(0, 9), st.none())
edges = st.sampled_from([1e-7, 1e-6, 100, 101, -0.0, 10**30])
weights = st.one_of(
    st.floats(), edges, st.booleans(), st.integers(-1, 2), st.text(max_size=1)
)
data = st.fixed_dictionaries(
    {"text_list": st.one_of(st.lists(texts, max_size=3), st.text(max_size=3))},
    optional={
        "loss_weights": st.one_of(st.lists(weights, max_size=3), st.text(max_size=3)),
        "other": st.none(),
    },
)
values = st.one_of(
    st.fixed_dictionaries({"data": data}, optional={"more": st.none()}),
    st.fixed_dictionaries({"data": texts}),
    st.fixed_dictionaries({"prompt": texts}, optional={"completion": texts}),
    st.sampled_from(
        [
            {"data": {"text_list": ["a", "b"], "loss_weights": [0, 1]}},
            {"data": {"text_list": ["data"], "loss_weights": [1.0]}},
            {"prompt": "completion", "completion": "prompt"},
        ]
    ),
)
spelt = st.builds(
    lambda value, spaces, ascii_only: json.dumps(
        value, ensure_ascii=ascii_only, separators=spaces
    ),
    values,
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]),
    st.booleans(),
)
# Lines that a decoder of whole blocks may take for something else.
odd = st.sampled_from(
    [
        "",
        " ",
        FINE + FINE,
        FINE + " ",
        FINE[:8],
        FINE[8:],
        FINE[:-1],
        "}",
        '{"data": "a", "data": "b"}',
        '{"data": "a", "d\\u0061ta": "b"}',
        '{"data": {"text_list": ["a"], "text_list": ["b"], "loss_weights": [1]}}',
        '{"prompt": "a", "completion": "b", "\\u0070rompt": "c"}',
        '{"data": "\\ud800"}',
        '{"data": "' + "[" * 20 + '"}',
        "[" * 2000,
        FINE[:20] + "\ufeff" + FINE[20:],
    ]
)
lines = st.one_of(
    st.lists(spelt, max_size=5), st.lists(st.one_of(spelt, odd), max_size=5)
)


@settings(deadline=None)
@given(lines, st.sampled_from(["\n", "\r\n", "\r"]))
@example([FINE + FINE, FINE[:8], FINE[8:]], "\n")
def test_the_same_lines_pass_with_the_same_segments(tmp_path_factory, lines, end):
    path = tmp_path_factory.mktemp("fast") / "upload.bin"
    path.write_bytes(end.join(lines).encode())
    batches = list(read_jsonl(path))
    content = b"".join(batch.content() for batch in batches)
    # The end of an empty last line is no line.
    expected = [parsed(line) for line in lines]
    good = [segments for _, segments in expected if segments]
    assert [parse_line(line) for line in content.splitlines()] == good
    assert content == b"".join(map(dump_line, good))
    refused = [bad.line for batch in batches for bad in batch.bad_lines]
    assert refused == [at for at, (bad, _) in enumerate(expected, start=1) if bad]


def parsed(line):
    """Returns whether the line is bad, and else its segments, if it is not blank."""
    if not line.strip():
        return False, None
    try:
        return False, read_line(line.encode())[1]
    except ExampleError:
        return True, None
