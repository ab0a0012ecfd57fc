"""Lays changes of loss weights over examples. The later change wins."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from datasets.reading.batches import ImportBatch, join_by
from datasets.reading.lines import read_blocks
from jobs.trainer.text.examples import Segment

LAST = -1


@dataclass(frozen=True)
class Change:
    """A loss weight for a segment of one example, or of every example (a rule).

    `example` and `segment` count from 0; a rule has no example.
    """

    id: int
    example: int | None
    segment: int
    weight: float

    def apply(self, weights: list[float]) -> None:
        """Changes the weight in an example's list of weights, if it has the segment."""
        at = self.segment if self.segment >= 0 else len(weights) + self.segment
        if 0 <= at < len(weights):
            weights[at] = self.weight


class Draft:
    """The changes that are laid over a version, in the order of their ids."""

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
        """Returns the segments of an example with the changes laid over them."""
        weights = [weight for _, weight in segments]
        for change in self.changes_of(example):
            change.apply(weights)
        return [(text, w) for (text, _), w in zip(segments, weights, strict=True)]

    def as_json(self) -> list[dict[str, Any]]:
        """Returns the changes as an import request keeps them."""
        return [asdict(change) for change in self.changes]

    def changes_of(self, example: int) -> list[Change]:
        """Returns the changes of an example in the order in which they are applied."""
        edits = self.edits.get(example)
        if not edits:
            return self.rules
        return sorted([*self.rules, *edits], key=lambda change: change.id)


def read_changed(path: Path, draft: Draft, joiner: str = "") -> Iterator[ImportBatch]:
    """Yields a version's examples with a draft and a joiner laid over them.

    The version's lines are in the long form, and right, so they are not checked again.
    """
    number = 0
    for block in read_blocks(path):
        batch = ImportBatch(block.done)
        for line in filter(None, block.lines):
            data = orjson.loads(line)["data"]
            texts, weights = data["text_list"], data["loss_weights"]
            for change in draft.changes_of(number):
                change.apply(weights)
            number += 1
            batch.add(join_by(list(zip(texts, weights, strict=True)), joiner))
        yield batch
