"""Looks at the examples of a batch together, as far as their loss weights agree."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.reading.batches import ImportBatch, Weights


@dataclass(frozen=True)
class Alike:
    """Examples of a batch whose loss weights are the same.

    `at` tells which ones, counted from 0. `columns` holds their first texts, their
    second texts, and so on; `characters` holds the lengths of these.
    """

    weights: Weights
    at: Sequence[int]
    columns: list[tuple[str, ...]]
    characters: list[np.ndarray]


def alike(batch: ImportBatch) -> list[Alike]:
    """Returns the examples of a batch, grouped by their loss weights."""
    if len(set(batch.weights)) == 1:
        return [_group(batch, batch.weights[0], range(len(batch)))]
    places: dict[Weights, list[int]] = defaultdict(list)
    for number, weights in enumerate(batch.weights):
        places[weights].append(number)
    return [_group(batch, weights, at) for weights, at in places.items()]


def _group(batch: ImportBatch, weights: Weights, at: Sequence[int]) -> Alike:
    texts = batch.texts if len(at) == len(batch) else [batch.texts[one] for one in at]
    columns = list(zip(*texts, strict=True))
    lengths = [np.fromiter(map(len, column), np.uint32) for column in columns]
    return Alike(weights, at, columns, lengths)
