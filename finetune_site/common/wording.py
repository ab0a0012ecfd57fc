"""Writes numbers and times as people read them on a page."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

NO_BREAK = "\u00a0"
MISSING = "–"
MINUTE, HOUR, DAY = 60, 3600, 86400


class Progressing(Protocol):
    step: int
    total_steps: int
    seconds_per_step: float | None


def tenths(weight: float) -> str:
    """Returns the value of `data-w`: 0 only for exactly 0, 10 only for exactly 1."""
    if weight > 1:
        return "over"
    if weight in (0, 1):
        return "10" if weight else "0"
    return str(min(9, max(1, round(weight * 10))))


def weight(value: float) -> str:
    return f"{value:g}"


def loss(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def loss_change(first: float | None, last: float | None) -> str:
    if not first or last is None:
        return ""
    change = (first - last) / first
    return f"{percent(abs(change))} {'lower' if change >= 0 else 'higher'}"


def count(value: float | None) -> str:
    return MISSING if value is None else f"{round(value):,}"


def counted(number: int, one: str, many: str = "") -> str:
    """Returns, for example, `1 example` or `2,000 examples`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def percent(share: float | None) -> str:
    """Returns a percentage without decimals, never 0 % for something nor
    100 % for less than all.
    """
    if share is None:
        return MISSING
    if 0 < share < 0.005:
        return f"<{NO_BREAK}1{NO_BREAK}%"
    if 0.995 <= share < 1:
        return f">{NO_BREAK}99{NO_BREAK}%"
    return f"{share * 100:.0f}{NO_BREAK}%"


def whole_percents(shares: Sequence[float]) -> list[int]:
    """Returns percentages that add up to 100, by the largest-remainder method."""
    total = sum(shares)
    if not total:
        return [0 for _ in shares]
    exact = [share / total * 100 for share in shares]
    rounded = [int(value) for value in exact]
    by_remainder = sorted(
        range(len(exact)), key=lambda i: exact[i] - rounded[i], reverse=True
    )
    for i in by_remainder[: 100 - sum(rounded)]:
        rounded[i] += 1
    return rounded


def parameters(number: int) -> str:
    """Returns, for example, `5.9 million` or `0.6 billion`."""
    size, unit = (1e9, "billion") if number >= 5e8 else (1e6, "million")
    return f"{number / size:.1f}".removesuffix(".0") + f"{NO_BREAK}{unit}"


def num_bytes(value: float | None) -> str:
    """Returns a size in powers of 1000, as on the boxes of disks: `12 MB`."""
    if value is None:
        return MISSING
    power = min(len(f"{round(value)}") - 1, 12) // 3
    unit = ("byte" if value == 1 else "bytes", "kB", "MB", "GB", "TB")[power]
    size = value / 1000**power
    digits = 0 if power == 0 or size >= 10 else 1
    return f"{size:.{digits}f}".removesuffix(".0") + NO_BREAK + unit


def duration(seconds: float | None) -> str:
    """Returns a time as on a stopwatch: `1:15`, `2:03:15`."""
    if seconds is None:
        return MISSING
    minutes, rest = divmod(max(0, round(seconds)), MINUTE)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def about(seconds: float | None) -> str:
    """Returns a rounded estimate in words: `about 2 min 20 s`."""
    if seconds is None:
        return MISSING
    if seconds < 10:
        return "a few seconds"
    if seconds < 55:
        return f"about {_parts((round(seconds / 5) * 5, 's'))}"
    if seconds < 10 * MINUTE:
        minutes, rest = divmod(round(seconds / 10) * 10, MINUTE)
        return f"about {_parts((minutes, 'min'), (rest, 's'))}"
    if seconds < HOUR - MINUTE / 2:
        return f"about {_parts((round(seconds / MINUTE), 'min'))}"
    if seconds < DAY:
        hours, rest = divmod(round(seconds / MINUTE / 10) * 10, 60)
        return f"about {_parts((hours, 'h'), (rest, 'min'))}"
    days, rest = divmod(round(seconds / HOUR), 24)
    return f"about {_parts((days, 'days' if days > 1 else 'day'), (rest, 'h'))}"


def _parts(*parts: tuple[int, str]) -> str:
    return " ".join(f"{number}{NO_BREAK}{unit}" for number, unit in parts if number)


def ago(then: datetime | None) -> str:
    if then is None:
        return MISSING
    # Imported here, because `openai-ft` uses this module without Django.
    from django.utils import timezone

    seconds = (timezone.now() - then).total_seconds()
    if seconds < 5:
        return "just now"
    for limit, size, unit in (
        (MINUTE, 1, "s"),
        (HOUR, MINUTE, "min"),
        (DAY, HOUR, "h"),
    ):
        if seconds < limit:
            return f"{int(seconds / size)}{NO_BREAK}{unit}{NO_BREAK}ago"
    if seconds < 2 * DAY:
        return "yesterday"
    if seconds < 7 * DAY:
        return f"{int(seconds / DAY)}{NO_BREAK}days{NO_BREAK}ago"
    return f"{timezone.localtime(then):%-d %b %Y}".replace(" ", NO_BREAK)


def time_left(job: Progressing) -> str:
    """Returns, for example, `0:42 left`, or nothing while the speed is not known."""
    seconds = seconds_left(job)
    return "" if seconds is None else f"{duration(seconds)} left"


def seconds_left(job: Progressing) -> float | None:
    if not job.seconds_per_step or not job.total_steps:
        return None
    return max(0, job.total_steps - job.step) * job.seconds_per_step
