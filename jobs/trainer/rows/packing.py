"""[contract] Which tokens share a row: best fit, the same for a seed everywhere.

A row holds up to `max_tokens` (input, target) pairs, shifted before anything is cut: an
example of n tokens and its end token is n pairs, and no target is lost at a cut.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
# Enough for 4 billion pieces and tokens an example, in half the memory.
SmallInts = npt.NDArray[np.uint32]
SORTED_AT_ONCE = 2**18


@dataclass(frozen=True)
class Packing:
    """Rows of pieces: piece i is `lengths[i]` pairs of an example, from `starts[i]` on.

    Row r holds the pieces row_starts[r] to row_starts[r + 1].
    """

    examples: SmallInts
    starts: SmallInts
    lengths: SmallInts
    row_starts: SmallInts
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


def pack(token_lengths: SmallInts, max_tokens: int, seed: int) -> Packing:
    """Pack examples of the given lengths (tokens, end token included).

    Pieces go by length, longest first, each into the fullest row with room for it; the
    order of equally long ones is drawn from the seed.
    """
    examples, starts, lengths = _cut(token_lengths, max_tokens)
    row_of, place_of, num_in_row = _best_fit(np.bincount(lengths), max_tokens)
    row_starts = _starts_of(num_in_row)
    # Where each piece comes to stand, in place of where it stands in its row.
    place_of += row_starts[row_of]
    del row_of
    order = np.empty_like(place_of)
    order[place_of] = _longest_first(lengths, max_tokens, seed)
    del place_of
    return Packing(
        examples=examples[order],
        starts=starts[order],
        lengths=lengths[order],
        row_starts=row_starts,
        max_tokens=max_tokens,
        num_cut=_num_cut(token_lengths, max_tokens),
    )


def rows_for(
    token_lengths: SmallInts, max_tokens: int, seed: int, *, alone: bool
) -> Packing:
    """Packed rows, or one piece a row for a model that needs own rows."""
    if alone:
        return one_by_one(token_lengths, max_tokens)
    return pack(token_lengths, max_tokens, seed)


def one_by_one(token_lengths: SmallInts, max_tokens: int) -> Packing:
    """A row for every piece, for architectures that may see across borders."""
    examples, starts, lengths = _cut(token_lengths, max_tokens)
    return Packing(
        examples=examples,
        starts=starts,
        lengths=lengths,
        row_starts=np.arange(len(lengths) + 1, dtype=np.uint32),
        max_tokens=max_tokens,
        num_cut=_num_cut(token_lengths, max_tokens),
    )


# Every step asks for its epoch's order, and a million rows take 15 ms.
@lru_cache(maxsize=1)
def row_order(num_rows: int, seed: int, epoch: int) -> Ints:
    """The order of rows in an epoch (from 0): a function of its arguments alone."""
    order = np.random.default_rng([seed, epoch]).permutation(num_rows)
    order.setflags(write=False)
    return order


def _num_cut(token_lengths: SmallInts, max_tokens: int) -> int:
    return int(np.count_nonzero(token_lengths > max_tokens + 1))


def _cut(
    token_lengths: SmallInts, max_tokens: int
) -> tuple[SmallInts, SmallInts, SmallInts]:
    """Consecutive pieces of at most max_tokens pairs: (examples, starts, lengths)."""
    pairs = token_lengths - np.uint32(1)
    examples = np.arange(len(pairs), dtype=np.uint32)
    if np.all((pairs > 0) & (pairs <= max_tokens)):
        # Zeros that nobody writes to take no memory.
        return examples, np.zeros(len(pairs), dtype=np.uint32), pairs
    num_pieces = pairs // max_tokens + (pairs % max_tokens > 0)
    first_piece = np.repeat(_starts_of(num_pieces)[:-1], num_pieces)
    examples = np.repeat(examples, num_pieces)
    starts = np.arange(len(examples), dtype=np.uint32)
    starts -= first_piece
    starts *= np.uint32(max_tokens)
    return examples, starts, np.minimum(pairs[examples] - starts, max_tokens)


def _starts_of(counts: SmallInts | Ints) -> SmallInts:
    """Where each of several groups begins, and where the last one ends."""
    starts = np.zeros(len(counts) + 1, dtype=np.uint32)
    np.cumsum(counts, out=starts[1:])
    return starts


def _longest_first(lengths: SmallInts, max_tokens: int, seed: int) -> SmallInts:
    """All pieces by falling length, equally long ones in an order from the seed."""
    order = np.arange(len(lengths), dtype=np.uint32)
    np.random.default_rng(seed).shuffle(order)
    # Numpy sorts 16-bit keys by counting, in a tenth of the time.
    key = np.uint16 if max_tokens < 2**16 else np.uint32
    shortfalls = (max_tokens - lengths).astype(key)
    # Where the next piece of each length goes.
    nexts = _starts_of(np.bincount(shortfalls, minlength=max_tokens))
    found = np.empty_like(order)
    # Not all at once: numpy's sort takes 16 bytes a number while it works.
    for first in range(0, len(order), SORTED_AT_ONCE):
        some = order[first : first + SORTED_AT_ONCE]
        shortfall = shortfalls[some]
        by_length = np.argsort(shortfall, kind="stable")
        some, shortfall = some[by_length], shortfall[by_length]
        counts = np.bincount(shortfall, minlength=len(nexts)).astype(np.uint32)
        places = nexts + counts - np.cumsum(counts, dtype=np.uint32)
        found[places[shortfall] + np.arange(len(some), dtype=np.uint32)] = some
        nexts += counts
    return found


def _best_fit(
    num_of_length: Ints, max_tokens: int
) -> tuple[SmallInts, SmallInts, SmallInts]:
    """(row of each piece, its place there, pieces of each row), longest piece first.

    Once a piece is in the fullest row that takes it, that row is the fullest for the
    next of the same length too, until it takes no more. So pieces of one length fill
    all rows with the same room alike, and each such block is handled at once.
    """
    num_pieces = int(num_of_length.sum())
    row_of = np.empty(num_pieces, dtype=np.uint32)
    place_of = np.empty(num_pieces, dtype=np.uint32)
    # As many rows as pieces at most; what stays untouched takes no memory.
    num_in_row = np.zeros(num_pieces, dtype=np.uint32)
    open_rows = _OpenRows(max_tokens)
    done = 0
    for length in np.flatnonzero(num_of_length)[::-1].tolist():
        end = done + int(num_of_length[length])
        while done < end:
            room, rows = open_rows.take(length, end - done)
            each = room // length
            taken = min(end - done, len(rows) * each)
            block = slice(done, done + taken)
            row_of[block] = np.repeat(rows, each)[:taken]
            places = num_in_row[rows, None] + np.arange(each, dtype=np.uint32)
            place_of[block] = places.ravel()[:taken]
            done += taken
            full, rest = divmod(taken, each)
            for some, num in ((rows[:full], each), (rows[full:], rest)):
                num_in_row[some] += num
                open_rows.put(some, room - num * length)
    return row_of, place_of, num_in_row[: open_rows.num_rows].copy()


class _OpenRows:
    """Rows by the room they have left, those of equal room as blocks."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.num_rows = 0
        self.blocks: list[list[SmallInts]] = [[] for _ in range(max_tokens + 1)]
        # Bit r says that some row has room r.
        self.rooms = 0

    def take(self, length: int, num_pieces: int) -> tuple[int, SmallInts]:
        """The fullest rows that take pieces of this length, and the room in each.

        No more rows than the pieces need; new ones where no open row takes any.
        """
        # The lowest bit from the length up is the fullest row.
        fitting = self.rooms >> length
        if not fitting:
            num_needed = -(-num_pieces // (self.max_tokens // length))
            first, self.num_rows = self.num_rows, self.num_rows + num_needed
            return self.max_tokens, np.arange(first, self.num_rows, dtype=np.uint32)
        room = length + (fitting & -fitting).bit_length() - 1
        num_needed = -(-num_pieces // (room // length))
        blocks = self.blocks[room]
        rows = blocks.pop()
        if len(rows) > num_needed:
            blocks.append(rows[:-num_needed])
        if not blocks:
            self.rooms &= ~(1 << room)
        return room, rows[-num_needed:][::-1]

    def put(self, rows: SmallInts, room: int) -> None:
        if room and len(rows):
            self.blocks[room].append(rows)
            self.rooms |= 1 << room
