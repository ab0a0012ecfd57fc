"""Counts how much is learned from which part of the examples.

A part is a position with a loss weight. The positions are first, second and later, and
the last segment of an example is counted apart.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any

from datasets.reading.alike import Alike
from datasets.reading.batches import meets_unspaced
from jobs.trainer.text.examples import Segment

# Positions from here on are counted together.
LATER = 2
MAX_PARTS = 20
MAX_KEYS = 4096

Key = tuple[int, bool, float]


@dataclass(frozen=True)
class Part:
    """Segments at one position (from 0, at most LATER) with one loss weight.

    `weight` is the mean over characters where weights were too many to keep apart.
    """

    position: int
    last: bool
    weight: float
    segments: int
    characters: int
    mixed: bool = False

    @property
    def mass(self) -> float:
        """What the part adds to the loss, with characters standing for tokens."""
        return self.weight * self.characters


class Tally:
    """Counts segments and characters, as examples are read, by position and weight."""

    def __init__(self) -> None:
        self.num_examples = 0
        self.num_unspaced = 0
        self._segments: Counter[Key] = Counter()
        self._characters: Counter[Key] = Counter()

    def add(self, groups: Iterable[Alike]) -> None:
        """Counts the examples of a batch, which are grouped by their loss weights."""
        for group in groups:
            self.num_examples += len(group.at)
            for number, (weight, characters) in enumerate(
                zip(group.weights, group.characters, strict=True)
            ):
                is_last = number == len(group.weights) - 1
                key = (min(number, LATER), is_last, weight)
                self._segments[key] += len(characters)
                self._characters[key] += int(characters.sum())
            self.num_unspaced += _count_unspaced(group.columns)
        if len(self._segments) > MAX_KEYS:
            self._replace(merge_parts(self.parts(), MAX_KEYS // 4))

    def parts(self) -> list[Part]:
        """Returns what is counted so far, sorted by position and weight."""
        return [
            Part(*key, segments=count, characters=self._characters[key])
            for key, count in sorted(self._segments.items())
        ]

    def shares(self) -> list[dict[str, Any]]:
        """Returns the parts as the version's row keeps them."""
        return [asdict(part) for part in merge_parts(self.parts(), MAX_PARTS)]

    def _replace(self, parts: Iterable[Part]) -> None:
        self._segments.clear()
        self._characters.clear()
        for part in parts:
            key = (part.position, part.last, part.weight)
            self._segments[key] += part.segments
            self._characters[key] += part.characters


def merge_parts(parts: list[Part], max_parts: int) -> list[Part]:
    """Returns at most `max_parts` parts; the smallest at each place become one."""
    if len(parts) <= max_parts:
        return parts
    places = {(part.position, part.last) for part in parts}
    keep = max(0, max_parts - len(places))
    by_size = sorted(parts, key=lambda part: part.characters, reverse=True)
    kept, rest = by_size[:keep], by_size[keep:]
    for position, last in sorted(places):
        here = [part for part in rest if (part.position, part.last) == (position, last)]
        if here:
            kept.append(_merged(here))
    return sorted(kept, key=lambda part: (part.position, part.last, part.weight))


def part_of(segments: list[Segment], number: int) -> tuple[int, bool]:
    """Returns the position of an example's segment, and whether it is the last one."""
    return min(number, LATER), number == len(segments) - 1


def _merged(parts: list[Part]) -> Part:
    characters = sum(part.characters for part in parts)
    mass = sum(part.mass for part in parts)
    return Part(
        position=parts[0].position,
        last=parts[0].last,
        weight=mass / characters if characters else 0.0,
        segments=sum(part.segments for part in parts),
        characters=characters,
        mixed=len({part.weight for part in parts}) > 1,
    )


def _count_unspaced(columns: list[tuple[str, ...]]) -> int:
    """Counts the examples with a border that has no white space on either side."""
    if any("" in column for column in columns):
        return sum(map(_has_unspaced, zip(*columns, strict=True)))
    unspaced = [_unspaced(*pair) for pair in pairwise(columns)]
    if len(unspaced) < 2:
        return sum(map(len, unspaced))
    return len(set().union(*unspaced))


def _unspaced(before: tuple[str, ...], after: tuple[str, ...]) -> list[int]:
    """Returns which examples have no white space there; none of the texts is empty.

    Mostly all have some, so that is found out first, at the speed of C.
    """
    ends = "".join(map(itemgetter(-1), before))
    starts = "".join(map(itemgetter(0), after))
    if starts.isspace() or ends.isspace():
        return []
    return [
        number
        for number, (end, start) in enumerate(zip(ends, starts, strict=True))
        if not (end.isspace() or start.isspace())
    ]


def _has_unspaced(texts: Sequence[str]) -> bool:
    return any(meets_unspaced(*pair) for pair in pairwise(filter(None, texts)))
