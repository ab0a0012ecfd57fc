"""Lays changes of loss weights over examples: the later change wins."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from datasets.batches import Batch, join_by
from datasets.lines import read_blocks
from jobs.trainer.examples import Segment, parse_line

LAST = -1


@dataclass(frozen=True)
class Change:
    """`example` and `segment` count from 0; no example means every one (a rule)."""

    id: int
    example: int | None
    segment: int
    weight: float

    def apply(self, weights: list[float]) -> None:
        at = self.segment if self.segment >= 0 else len(weights) + self.segment
        if 0 <= at < len(weights):
            weights[at] = self.weight


class Draft:
    def __init__(self, changes: Iterable[Change]) -> None:
        self.changes = sorted(changes, key=lambda change: change.id)
        self.rules = [change for change in self.changes if change.example is None]
        self.edits: dict[int, list[Change]] = defaultdict(list)
        for change in self.changes:
            if change.example is not None:
                self.edits[change.example].append(change)

    def __bool__(self) -> bool:
        return bool(self.changes)

    def apply(self, example: int, segments: Sequence[Segment]) -> list[Segment]:
        weights = [weight for _, weight in segments]
        for change in self._changes_of(example):
            change.apply(weights)
        return [(text, w) for (text, _), w in zip(segments, weights, strict=True)]

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(change) for change in self.changes]

    def _changes_of(self, example: int) -> list[Change]:
        edits = self.edits.get(example)
        if not edits:
            return self.rules
        return sorted([*self.rules, *edits], key=lambda change: change.id)


def read_changed(path: Path, draft: Draft, joiner: str = "") -> Iterator[Batch]:
    """A version's examples with a draft and a joiner laid over them."""
    numbers = count()
    for block in read_blocks(path):
        batch = Batch(block.done)
        for line in block.lines:
            if line:
                segments = draft.apply(next(numbers), parse_line(line))
                batch.add(join_by(segments, joiner))
        yield batch
