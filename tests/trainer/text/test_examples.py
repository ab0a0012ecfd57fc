"""The guide's three forms are read, and other lines are refused with a reason."""

import pytest

from jobs.trainer.text.examples import ExampleError, dump_line, parse_line


@pytest.mark.parametrize(
    ("line", "segments"),
    [
        ('{"data": "One text."}', [("One text.", 1.0)]),
        ('{"data": {"text_list": ["Q", " A"]}}', [("Q", 1.0), (" A", 1.0)]),
        (
            '{"data": {"text_list": ["Q", " A"], "loss_weights": [0, 2.5]}}',
            [("Q", 0.0), (" A", 2.5)],
        ),
        ('"One text."', [("One text.", 1.0)]),
        ('{"text_list": ["Q"], "loss_weights": [0.1]}', [("Q", 0.1)]),
    ],
)
def test_reads_every_form(line, segments):
    assert parse_line(line) == segments


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{nope}", "not JSON"),
        (b'{"data": "caf\xe9"}', "UTF-8"),
        ("17", "found a number"),
        ('{"data": {"text": "x"}}', 'unknown key "text"'),
        ('{"data": {"text_list": "x"}}', "brackets"),
        ('{"data": {"text_list": ["x", 3]}}', "text 2"),
        ('{"data": {"text_list": []}}', "no text"),
        ('{"data": {"text_list": ["", ""]}}', "no text"),
        ('{"data": {"text_list": ["x"], "loss_weights": [1, 0]}}', "1 text but 2"),
        ('{"data": {"text_list": ["x"], "loss_weights": [-1]}}', "loss weight 1 is -1"),
        ('{"data": {"text_list": ["x"], "loss_weights": ["1"]}}', "is a text"),
        ('{"data": {"text_list": ["x"], "loss_weights": [true]}}', "true or false"),
        ('{"data": {"text_list": ["x"], "loss_weights": [1e999]}}', "infinity"),
    ],
)
def test_says_what_is_wrong_with_a_line(line, words):
    with pytest.raises(ExampleError, match=words):
        parse_line(line)


def test_a_written_line_reads_back_the_same():
    segments = [("Zoë said\n“hi”", 0.1), ("", 1.0), (" 🙂", 0.9)]
    assert parse_line(dump_line(segments)) == segments
