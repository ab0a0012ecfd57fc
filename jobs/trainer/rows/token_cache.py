"""[contract] A dataset version as tokens on disk, which plan and trainer memory-map.

The folder holds `ids.bin` (uint32) and `weights.bin` (float32), both with one number
for each token, `lengths.bin` (uint32, the number of tokens of each example),
`spare.bin` (bool, for each example whether running text goes without its first token),
and `facts.json`. It gets its name when it is complete, so a folder that exists can be
used.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.trainer.contract.runfolder import (
    complete_folder,
    remove_drafts,
    write_json,
)
from jobs.trainer.text.bulk_encoding import BulkEncoder, EncodedBatch
from jobs.trainer.text.encoding import (
    end_of_text_ids,
    load_encoder,
    tokenizer_sha256,
)
from jobs.trainer.text.examples import (
    MAX_LOSS_WEIGHT,
    MIN_LOSS_WEIGHT,
    ExampleError,
    Segment,
    load_line,
    parse_line,
)

# Examples that are encoded at once: enough to make arrays pay, with little memory.
EXAMPLES_PER_BATCH = 2_000
CHARACTERS_PER_BATCH = 200_000
WAIT_SECONDS = 0.2
# Numbers that are in memory at once while a large file is searched.
NUMBERS_AT_ONCE = 2**22
# It changes whenever the same example becomes other tokens than before.
FORM = 2
# The smallest loss weight above 0 in float32, the precision in which weights are kept.
MIN_FLOAT32_WEIGHT = np.float32(MIN_LOSS_WEIGHT)


class DatasetError(ValueError):
    """Says which line of a dataset file is wrong, and how to mend it."""


@dataclass(frozen=True, kw_only=True)
class CacheFacts:
    """Sums over a whole version. A target is any token except an example's first.

    They are about whole examples; see `TokenCache.facts_for`.
    """

    examples: int
    targets: int
    learned_targets: int
    # The number of examples in which no target has a weight above 0.
    unlearned_examples: int
    # The digest of the file that was encoded.
    sha256: str = ""
    # The largest token id. It is None in older caches, which did not note it.
    largest_id: int | None = None


class TokenCache:
    """An open cache. Its files are read only when they are needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = CacheFacts(**json.loads((folder / "facts.json").read_bytes()))

    @cached_property
    def lengths(self) -> npt.NDArray[np.uint32]:
        """The number of tokens of each example."""
        return np.asarray(self._numbers("lengths.bin", np.uint32))

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each example begins in ids and weights, and where the last one ends."""
        starts = np.zeros(len(self.lengths) + 1, dtype=np.int64)
        np.cumsum(self.lengths, out=starts[1:])
        return starts

    @cached_property
    def ids(self) -> npt.NDArray[np.uint32]:
        """The token ids of all examples, one behind the other."""
        return self._numbers("ids.bin", np.uint32)

    @cached_property
    def weights(self) -> npt.NDArray[np.float32]:
        """The loss weight of each token."""
        return self._numbers("weights.bin", np.float32)

    def _numbers(self, name: str, kind: type) -> npt.NDArray[Any]:
        # An empty file cannot be mapped.
        if not self.facts.examples:
            return np.empty(0, dtype=kind)
        return np.memmap(self.folder / name, dtype=kind, mode="r")

    def largest_id(self) -> int:
        """Returns the largest token id, or -1 when there is no token."""
        if self.facts.largest_id is not None:
            return self.facts.largest_id
        firsts = range(0, len(self.ids), NUMBERS_AT_ONCE)
        parts = (self.ids[first : first + NUMBERS_AT_ONCE] for first in firsts)
        return max((int(part.max()) for part in parts), default=-1)

    @cached_property
    def spare(self) -> npt.NDArray[np.bool_]:
        """Whether each example goes without its first token when it is cut.

        A job that was begun with an older cache, which has no such file, goes on with
        the rows that it had.
        """
        if not (self.folder / "spare.bin").is_file():
            return np.zeros(self.facts.examples, dtype=np.bool_)
        return np.asarray(self._numbers("spare.bin", np.bool_))

    def bare(self, max_tokens: int) -> npt.NDArray[np.bool_]:
        """Returns which examples are running text in rows of `max_tokens`: [examples].

        With their first token, which is only read, they would be longer than a row, so
        they go without it. A text of exactly 8 rows of tokens makes 8 rows.
        """
        return self.spare & (self.lengths > max_tokens + 1)

    def facts_for(self, max_tokens: int) -> CacheFacts:
        """Returns the sums over the examples as they are in rows of `max_tokens`."""
        bare = np.flatnonzero(self.bare(max_tokens)).tolist()
        unlearned = sum(not self._learns_beyond_first(example) for example in bare)
        return replace(
            self.facts,
            targets=self.facts.targets - len(bare),
            learned_targets=self.facts.learned_targets - len(bare),
            unlearned_examples=self.facts.unlearned_examples + unlearned,
        )

    def _learns_beyond_first(self, example: int) -> bool:
        """Returns whether a text has a weight above 0 behind its own first token."""
        begin, end = int(self.starts[example]) + 2, int(self.starts[example + 1])
        parts = (
            self.weights[first : min(first + NUMBERS_AT_ONCE, end)]
            for first in range(begin, end, NUMBERS_AT_ONCE)
        )
        return any(part.any() for part in parts)


def cache_folder(version_folder: Path, model_folder: Path) -> Path:
    """Returns the folder of the cache of a version for a model.

    Models with the same tokenizer, begin token and end token share a cache.
    """
    digest, [end_id, *_] = tokenizer_sha256(model_folder), end_of_text_ids(model_folder)
    return version_folder / "tokens" / f"{FORM}-{digest[:16]}-{end_id}"


def open_token_cache(folder: Path) -> TokenCache | None:
    """Returns the cache, or None when it has not been made yet."""
    return TokenCache(folder) if (folder / "facts.json").is_file() else None


def build_token_cache(
    examples: Path,
    model_folder: Path,
    folder: Path,
    *,
    progress: Callable[[int], None] = lambda num_examples: None,
    waiting: Callable[[], None] = lambda: None,
) -> TokenCache:
    """Encodes every example into a cache, in constant memory, unless it exists already.

    `progress` is called with the number of examples done. Of several processes one
    encodes, and the others wait and call `waiting` meanwhile. If the one that encodes
    is killed, another starts again. Raises DatasetError for a line that is no example.
    """
    if (cache := open_token_cache(folder)) is not None:
        return cache
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(f"{folder.name}.lock"), waiting):
        if open_token_cache(folder) is None:
            # A draft that a killed process left may be as large as a whole cache.
            remove_drafts(folder.parent, folder.name)
            with complete_folder(folder) as draft:
                digest = file_sha256(examples)
                facts = _write(examples, model_folder, draft, progress)
                facts = replace(facts, sha256=digest)
                write_json(draft / "facts.json", asdict(facts))
    return TokenCache(folder)


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _alone(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds a lock, which the system frees when the process ends, however it ends."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _take(descriptor):
            waiting()
            time.sleep(WAIT_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(
    examples: Path,
    model_folder: Path,
    draft: Path,
    progress: Callable[[int], None],
) -> CacheFacts:
    encoder = BulkEncoder(load_encoder(model_folder))
    is_needed = encoder.encoder.begin_id is not None
    counts = np.zeros(4, dtype=np.int64)
    largest_id = -1
    with (
        (draft / "ids.bin").open("wb") as ids,
        (draft / "weights.bin").open("wb") as weights,
        (draft / "lengths.bin").open("wb") as lengths,
        (draft / "spare.bin").open("wb") as spare,
    ):
        for segments in _batches(examples):
            batch = _encode(encoder, segments, examples, int(counts[0]))
            # The `tofile` of numpy would not report a full disk.
            ids.write(batch.ids.data)
            weights.write(batch.weights.data)
            lengths.write(batch.lengths.astype(np.uint32).data)
            spare.write((batch.have_context & (not is_needed)).data)
            counts += _count(batch)
            largest_id = max(largest_id, int(batch.ids.max()))
            progress(int(counts[0]))
    return CacheFacts(
        examples=int(counts[0]),
        targets=int(counts[1]),
        learned_targets=int(counts[2]),
        unlearned_examples=int(counts[3]),
        largest_id=largest_id,
    )


def _encode(
    encoder: BulkEncoder, batch: list[list[Segment]], path: Path, num_before: int
) -> EncodedBatch:
    """Encodes a batch; `num_before` is the number of lines before it in the file."""
    try:
        encoded = encoder.encode(batch)
    except TypeError:
        odd = next(n for n, example in enumerate(batch) if _has_odd_text(example))
        raise line_error(path, num_before + odd + 1, "a text in it is none") from None
    weights = encoded.weights
    usual = (weights == 0) | (weights >= MIN_FLOAT32_WEIGHT) & (
        weights <= MAX_LOSS_WEIGHT
    )
    if not usual.all():
        # The token belongs to the first example that ends behind it.
        token = int(np.argmin(usual))
        odd = int(np.searchsorted(np.cumsum(encoded.lengths), token, side="right"))
        raise line_error(
            path,
            num_before + odd + 1,
            f"a loss weight in it is {weights[token]:g}; 0 (read, not learned) or from "
            f"{MIN_LOSS_WEIGHT:g} to {MAX_LOSS_WEIGHT:g} can be",
        )
    return encoded


def _has_odd_text(example: list[Segment]) -> bool:
    return not all(isinstance(text, str) for text, _ in example)


def line_error(path: Path, number: int, what: str) -> DatasetError:
    """Returns the error for a line, counted from 1, of which `what` says the fault."""
    return DatasetError(
        f"Line {number:,} of the dataset file {path} is no example: {what}. Mend the "
        "line, upload the file as a new version, and start a new job."
    )


def _examples(path: Path) -> Iterator[tuple[list[Segment], int]]:
    """Yields each example with its number of characters."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                segments = load_line(line)
                size = sum(len(text) for text, _ in segments)
            except (ValueError, KeyError, TypeError):
                # The line was not written by `dump_line`: it has another form or a
                # fault.
                segments = _parsed(path, number, line)
                size = sum(len(text) for text, _ in segments)
            yield segments, size


def _parsed(path: Path, number: int, line: bytes) -> list[Segment]:
    try:
        return parse_line(line)
    except ExampleError as error:
        what = str(error) if line.strip() else "it is empty"
        raise line_error(path, number, what) from None


def _batches(examples: Path) -> Iterator[list[list[Segment]]]:
    batch: list[list[Segment]] = []
    num_characters = 0
    for segments, size in _examples(examples):
        batch.append(segments)
        num_characters += size
        if len(batch) == EXAMPLES_PER_BATCH or num_characters > CHARACTERS_PER_BATCH:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def _count(batch: EncodedBatch) -> npt.NDArray[np.int64]:
    """Returns the first four numbers of CacheFacts for one batch."""
    starts = np.cumsum(batch.lengths) - batch.lengths
    is_learned = batch.weights > 0
    # An example's first token is no target.
    is_learned[starts] = False
    learned = np.add.reduceat(is_learned, starts, dtype=np.int64)
    num_examples = len(batch.lengths)
    num_targets = len(batch.ids) - num_examples
    num_unlearned = np.count_nonzero(learned == 0)
    return np.array([num_examples, num_targets, learned.sum(), num_unlearned])
