"""[contract] Packs examples into rows by best fit, the same for a seed everywhere.

A row holds up to `max_tokens` (input, target) pairs. The pairs are made before an
example is cut: an example of n tokens and its end token has n pairs, so no target is
lost at a cut. A piece is a whole example, or a part of one that is longer than a row.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
# Enough for 4 billion pieces, and 4 billion tokens in an example, in half the memory.
SmallInts = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
SORTED_AT_ONCE = 2**18


@dataclass(frozen=True)
class Packing:
    """Rows of pieces.

    Piece i is `lengths[i]` pairs of example `examples[i]`, from pair `starts[i]` on.
    Row r holds the pieces `row_starts[r]` to `row_starts[r + 1]`.
    """

    examples: SmallInts
    starts: SmallInts
    lengths: SmallInts
    row_starts: SmallInts
    max_tokens: int
    # The number of examples that were longer than a row.
    num_cut: int

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return len(self.row_starts) - 1

    @property
    def padding_share(self) -> float:
        """The share of the rows' room that holds no pair, from 0 to 1."""
        room = self.num_rows * self.max_tokens
        return 1 - int(self.lengths.sum()) / room if room else 0.0

    def row(self, number: int) -> list[tuple[int, int, int]]:
        """Returns (example, start, length) of each piece of a row."""
        span = slice(self.row_starts[number], self.row_starts[number + 1])
        return list(
            zip(
                self.examples[span].tolist(),
                self.starts[span].tolist(),
                self.lengths[span].tolist(),
                strict=True,
            )
        )


def pack(
    token_lengths: SmallInts, max_tokens: int, seed: int, bare: Bools | None = None
) -> Packing:
    """Packs examples of the given lengths, in tokens with the end token.

    Those that are `bare` go without their first token. Longer pieces come first, and
    each goes into the fullest row that has room for it. The order of equally long
    pieces is drawn from the seed.
    """
    examples, starts, lengths = _cut(token_lengths, max_tokens, bare)
    row_of, place_of, num_in_row = _best_fit(np.bincount(lengths), max_tokens)
    row_starts = _starts_of(num_in_row)
    # From now on the place of each piece among all pieces, not in its row.
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
        num_cut=_num_cut(examples),
    )


def one_by_one(
    token_lengths: SmallInts, max_tokens: int, bare: Bools | None = None
) -> Packing:
    """Returns a row for every piece, for models that may see across borders."""
    examples, starts, lengths = _cut(token_lengths, max_tokens, bare)
    return Packing(
        examples=examples,
        starts=starts,
        lengths=lengths,
        row_starts=np.arange(len(lengths) + 1, dtype=np.uint32),
        max_tokens=max_tokens,
        num_cut=_num_cut(examples),
    )


# Every step needs the order of its epoch, and a million rows take 15 ms.
@lru_cache(maxsize=1)
def row_order(num_rows: int, seed: int, epoch: int) -> Ints:
    """Returns the order of rows in an epoch, which depends on the arguments only.

    Epochs are counted from 0.
    """
    order = np.random.default_rng([seed, epoch]).permutation(num_rows)
    order.setflags(write=False)
    return order


def _num_cut(examples: SmallInts) -> int:
    """Returns how many examples have several pieces, which stand side by side."""
    is_further = examples[1:] == examples[:-1]
    return int(np.count_nonzero(is_further & ~np.append(False, is_further[:-1])))


def _cut(
    token_lengths: SmallInts, max_tokens: int, bare: Bools | None
) -> tuple[SmallInts, SmallInts, SmallInts]:
    """Cuts examples into pieces of at most `max_tokens` pairs.

    Returns the example, the start and the length of each piece.
    """
    pairs = token_lengths - np.uint32(1)
    if bare is not None:
        pairs -= bare
    examples = np.arange(len(pairs), dtype=np.uint32)
    if np.all((pairs > 0) & (pairs <= max_tokens)):
        starts = np.zeros(len(pairs), dtype=np.uint32)
    else:
        num_pieces = pairs // max_tokens + (pairs % max_tokens > 0)
        first_piece = np.repeat(_starts_of(num_pieces)[:-1], num_pieces)
        examples = np.repeat(examples, num_pieces)
        starts = np.arange(len(examples), dtype=np.uint32)
        starts -= first_piece
        starts *= np.uint32(max_tokens)
        pairs = np.minimum(pairs[examples] - starts, max_tokens)
    if bare is not None and bare.any():
        starts += bare[examples]
    # An array of zeros takes no memory as long as nobody writes to it.
    return examples, starts, pairs


def _starts_of(counts: SmallInts | Ints) -> SmallInts:
    """Returns where each of several groups begins, and where the last one ends."""
    starts = np.zeros(len(counts) + 1, dtype=np.uint32)
    np.cumsum(counts, out=starts[1:])
    return starts


def _longest_first(lengths: SmallInts, max_tokens: int, seed: int) -> SmallInts:
    """Returns all pieces from the longest to the shortest.

    The order of equally long pieces is drawn from the seed.
    """
    order = np.arange(len(lengths), dtype=np.uint32)
    np.random.default_rng(seed).shuffle(order)
    # Numpy sorts 16-bit keys by counting, in a tenth of the time.
    key = np.uint16 if max_tokens < 2**16 else np.uint32
    shortfalls = (max_tokens - lengths).astype(key)
    # The place where the next piece of each length goes.
    nexts = _starts_of(np.bincount(shortfalls, minlength=max_tokens))
    found = np.empty_like(order)
    # They are sorted in parts, because numpy's sort takes 16 bytes a number meanwhile.
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
    """Puts pieces into rows by best fit, the longest piece first.

    Returns the row of each piece, its place in that row, and the number of pieces of
    each row. Once a piece is in the fullest row that has room for it, that row is also
    the fullest for the next piece of the same length, until it is full. So pieces of
    one length fill all rows with the same room in the same way, and each such block of
    rows is handled at once.
    """
    num_pieces = int(num_of_length.sum())
    row_of = np.empty(num_pieces, dtype=np.uint32)
    place_of = np.empty(num_pieces, dtype=np.uint32)
    # There are at most as many rows as pieces. Untouched zeros take no memory.
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
    """The rows that have room left, as blocks of rows with equal room."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.num_rows = 0
        self.blocks: list[list[SmallInts]] = [[] for _ in range(max_tokens + 1)]
        # Bit r says that some row has room r.
        self.rooms = 0

    def take(self, length: int, num_pieces: int) -> tuple[int, SmallInts]:
        """Takes out the fullest rows that have room for a piece of this length.

        Returns the room in each of them, and the rows: no more than the pieces need. If
        no open row has room, they are new rows.
        """
        # The lowest bit from `length` upwards stands for the fullest row.
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
        """Puts back rows that have this room left; full rows are forgotten."""
        if room and len(rows):
            self.blocks[room].append(rows)
            self.rooms |= 1 << room
