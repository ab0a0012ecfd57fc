import pytest

from jobs.cli.event_lines import event_text, worth_catching_up
from jobs.cli.screen import progress_text
from jobs.cli.text import columns, one_line, printable

STEP = {"type": "step", "step": 3, "loss": 1.5}
LOG = {"type": "log", "level": "info", "message": "6,421 tokens"}
WARNING = {**LOG, "level": "warning", "message": "little disk"}
COMPLETION = {"type": "completion", "step": 4, "prompt": "<joke>", "text": " Ha\nha"}
SNAPSHOT = {"type": "snapshot", "id": "tiny:2026-11-22.snap-a", "best": False}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe 😀\tok\n", "Größe 😀\tok\n"),
        ("\x1b[2Jgone", "\ufffd[2Jgone"),
        ("a\rb\x07\x9b31m", "a\ufffdb\ufffd\ufffd31m"),
        ("safe\u202egnp.exe", "safe\ufffdgnp.exe"),
    ],
)
def test_no_text_steers_the_terminal(text, shown):
    assert printable(text) == shown


def test_one_line_is_cut_with_a_mark():
    assert one_line("a\n b  c", 20) == "a b c"
    assert one_line("abcdef", 4) == "abc…"


def test_columns_are_as_wide_as_their_cells():
    assert columns([("a", "bb"), ("ccc", "d")]) == "a     bb\nccc   d"


@pytest.mark.parametrize(
    ("event", "least"),
    [(SNAPSHOT, 0), (COMPLETION, 1), (WARNING, 1), (LOG, 2), (STEP, 3)],
)
def test_each_verbosity_adds_something(event, least):
    told = [bool(event_text(event, verbosity)) for verbosity in range(4)]
    assert told == [verbosity >= least for verbosity in range(4)]


def test_a_snapshot_is_told_by_its_name():
    assert event_text(SNAPSHOT, 0) == "Created snapshot tiny:2026-11-22.snap-a"


def test_a_completion_stands_behind_its_prompt():
    assert event_text(COMPLETION, 1) == "Step 4: <joke> → Ha\n    ha"


def test_whoever_comes_late_sees_the_last_completions_only():
    events = [
        {**COMPLETION, "seq": 1},
        {**SNAPSHOT, "seq": 2},
        {**STEP, "seq": 3},
        {**COMPLETION, "seq": 4, "step": 8},
    ]
    assert [event["seq"] for event in worth_catching_up(events)] == [2, 4]


def test_progress_names_losses_and_time_left():
    job = {"step": 31, "total_steps": 1078, "train_loss": 2.4, "seconds_left": 72.0}
    assert progress_text(job) == "Step 31 of 1,078, train loss 2.40, 1:12 left"
