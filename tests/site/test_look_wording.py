from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from finetune_site.common import wording

NB = wording.NO_BREAK


@pytest.mark.parametrize(
    ("weight", "drawn"),
    [
        (0, "0"),
        (0.001, "1"),
        (0.1, "1"),
        (0.5, "5"),
        (0.99, "9"),
        (1, "10"),
        (2, "over"),
    ],
)
def test_tenths_keep_the_ends_for_the_exact_values(weight, drawn):
    assert wording.tenths(weight) == drawn


@pytest.mark.parametrize(
    ("weight", "written"),
    [(1.0, "1"), (0.1, "0.1"), (0.1 + 0.2, "0.3"), (0.05, "0.05")],
)
def test_weight_has_no_needless_digits(weight, written):
    assert wording.weight(weight) == written


def test_loss_has_two_decimals():
    assert wording.loss(2.3) == "2.30"
    assert wording.loss(None) == "–"


def test_whole_percents_add_up_to_100():
    assert wording.whole_percents([1, 1, 1]) == [34, 33, 33]
    assert wording.whole_percents([0, 0]) == [0, 0]


@pytest.mark.parametrize(
    ("share", "written"),
    [
        (0.63, f"63{NB}%"),
        (0.001, f"<{NB}1{NB}%"),
        (0.999, f">{NB}99{NB}%"),
        (1, f"100{NB}%"),
    ],
)
def test_percent_never_rounds_to_nothing_or_all(share, written):
    assert wording.percent(share) == written


@pytest.mark.parametrize(
    ("size", "written"),
    [(1, "1 byte"), (1500, "1.5 kB"), (12_000_000, "12 MB"), (2_000_000_000, "2 GB")],
)
def test_bytes_in_powers_of_1000(size, written):
    assert wording.num_bytes(size) == written.replace(" ", NB)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(42, "0:42"), (75, "1:15"), (7395, "2:03:15"), (-3, "0:00")],
)
def test_duration_reads_like_a_clock(seconds, written):
    assert wording.duration(seconds) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (3, "a few seconds"),
        (43, "about 45 s"),
        (58, "about 1 min"),
        (138, "about 2 min 20 s"),
        (1500, "about 25 min"),
        (3590, "about 1 h"),
        (12_000, "about 3 h 20 min"),
        (100_000, "about 1 day 4 h"),
    ],
)
def test_estimates_are_words(seconds, written):
    assert wording.about(seconds).replace(NB, " ") == written


@pytest.mark.parametrize(
    ("past", "written"),
    [
        (timedelta(seconds=2), "just now"),
        (timedelta(seconds=40), "40 s ago"),
        (timedelta(minutes=12), "12 min ago"),
        (timedelta(hours=5), "5 h ago"),
        (timedelta(days=1, hours=2), "yesterday"),
        (timedelta(days=3), "3 days ago"),
    ],
)
def test_ago_is_coarse(past, written):
    assert wording.ago(timezone.now() - past).replace(NB, " ") == written


def test_time_left_waits_for_a_known_speed():
    job = SimpleNamespace(step=168, total_steps=240, seconds_per_step=0.58)
    assert wording.time_left(job) == "0:42 left"
    job.seconds_per_step = None
    assert wording.time_left(job) == ""


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, "0 examples"), (1, "1 example"), (2000, "2,000 examples")],
)
def test_one_of_a_thing_has_no_plural(number, written):
    assert wording.counted(number, "example") == written
