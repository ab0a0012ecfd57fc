"""[contract] Which tokens share a row: best fit, the same for a seed everywhere.

A row holds up to `max_tokens` (input, target) pairs, shifted before anything is cut: an
example of n tokens and its end token is n pairs, and no target is lost at a cut.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Packing:
    """Rows of pieces: piece i is `lengths[i]` pairs of an example, from `starts[i]` on.

    Row r holds the pieces row_starts[r] to row_starts[r + 1].
    """

    examples: Ints
    starts: Ints
    lengths: Ints
    row_starts: Ints
    max_tokens: int
    # Examples that were longer than a row.
    num_cut: int

    @property
    def num_rows(self) -> int:
        return len(self.row_starts) - 1

    @property
    def padding_share(self) -> float:
        """Share of the rows' room that holds no pair."""
        room = self.num_rows * self.max_tokens
        return 1 - int(self.lengths.sum()) / room if room else 0.0

    def row(self, number: int) -> list[tuple[int, int, int]]:
        """(example, start, length) of each piece of a row."""
        span = slice(self.row_starts[number], self.row_starts[number + 1])
        return list(
            zip(
                self.examples[span].tolist(),
                self.starts[span].tolist(),
                self.lengths[span].tolist(),
                strict=True,
            )
        )


def pack(token_lengths: npt.NDArray[np.uint32], max_tokens: int, seed: int) -> Packing:
    """Pack examples of the given lengths (tokens, end token included).

    Pieces go by length, longest first, each into the fullest row with room for it; the
    order of equally long ones is drawn from the seed.
    """
    examples, starts, lengths = _cut(token_lengths.astype(np.int64) - 1, max_tokens)
    order = np.random.default_rng(seed).permutation(len(lengths))
    order = order[np.argsort(-lengths[order], kind="stable")]
    row_of = _best_fit(lengths[order].tolist(), max_tokens)
    by_row = np.argsort(row_of, kind="stable")
    order = order[by_row]
    counts = np.bincount(row_of) if len(row_of) else np.zeros(0, dtype=np.int64)
    return Packing(
        examples=examples[order],
        starts=starts[order],
        lengths=lengths[order],
        row_starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        max_tokens=max_tokens,
        num_cut=int(np.count_nonzero(token_lengths.astype(np.int64) - 1 > max_tokens)),
    )


def rows_for(
    token_lengths: npt.NDArray[np.uint32], max_tokens: int, seed: int, *, alone: bool
) -> Packing:
    """Packed rows, or one piece a row for a model that must not see borders."""
    if alone:
        return one_by_one(token_lengths, max_tokens)
    return pack(token_lengths, max_tokens, seed)


def one_by_one(token_lengths: npt.NDArray[np.uint32], max_tokens: int) -> Packing:
    """A row for every piece, for architectures whose state would cross borders."""
    examples, starts, lengths = _cut(token_lengths.astype(np.int64) - 1, max_tokens)
    return Packing(
        examples=examples,
        starts=starts,
        lengths=lengths,
        row_starts=np.arange(len(lengths) + 1, dtype=np.int64),
        max_tokens=max_tokens,
        num_cut=int(np.count_nonzero(token_lengths.astype(np.int64) - 1 > max_tokens)),
    )


def row_order(num_rows: int, seed: int, epoch: int) -> Ints:
    """The order of rows in an epoch (from 0): a function of its arguments alone."""
    return np.random.default_rng([seed, epoch]).permutation(num_rows)


def _cut(pairs: Ints, max_tokens: int) -> tuple[Ints, Ints, Ints]:
    """Consecutive pieces of at most max_tokens pairs: (examples, starts, lengths)."""
    num_pieces = -(-pairs // max_tokens)
    examples = np.repeat(np.arange(len(pairs)), num_pieces)
    first_piece = np.repeat(np.cumsum(num_pieces) - num_pieces, num_pieces)
    starts = (np.arange(len(examples)) - first_piece) * max_tokens
    lengths = np.minimum(pairs[examples] - starts, max_tokens)
    return examples, starts, lengths


def _best_fit(lengths: list[int], max_tokens: int) -> Ints:
    """The row of each piece. `lengths` must fall.

    Bit r of `open_room` says that some row has room r: the lowest set bit from a
    piece's length up is the fullest row that takes it.
    """
    rows_with_room: list[list[int]] = [[] for _ in range(max_tokens + 1)]
    open_room = 0
    num_rows = 0
    row_of = np.empty(len(lengths), dtype=np.int64)
    for piece, length in enumerate(lengths):
        fitting = open_room >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = rows_with_room[room].pop()
            if not rows_with_room[room]:
                open_room &= ~(1 << room)
        else:
            room, row = max_tokens, num_rows
            num_rows += 1
        row_of[piece] = row
        left = room - length
        if left:
            rows_with_room[left].append(row)
            open_room |= 1 << left
    return row_of
