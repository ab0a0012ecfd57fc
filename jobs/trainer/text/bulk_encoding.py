"""[contract] Turns gigabytes of examples into tokens: repeated text is encoded once.

Most text is words that occurred before. Looking up a word takes a quarter of the time
of encoding it again. It gives the same tokens if the tokenizer itself cuts text before
the word and after it.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from jobs.trainer.text.examples import Segment

Ids = npt.NDArray[np.uint32]
Ints = npt.NDArray[np.int64]

# Above either limit all known pieces are forgotten. The common ones are soon known
# again.
MAX_KNOWN_PIECES = 100_000
MAX_KNOWN_CHARACTERS = 4_000_000

# A piece ends before a single space between two other characters. Any other space
# belongs to a run of white space, which each tokenizer cuts in its own way.
PIECE = re.compile(r"(?s:.)[^ ]*(?:(?: (?!\S)|(?<=\s) )[^ ]*)*")

# How common tokenizers cut text, as written in their files: Qwen 2 and 3, and Llama 3.
# No alternative matches across a single space, and none looks back over one.
CUTS_BEFORE_SPACES = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


@dataclass(frozen=True)
class EncodedBatch:
    """Examples as tokens, one behind the other, the same as from `encode_examples`."""

    # [tokens] each.
    ids: Ids
    weights: npt.NDArray[np.float32]
    # [examples]: the number of tokens of each example.
    lengths: Ints


class BulkEncoder:
    """Does the same as `encode_examples` for very many examples, with arrays."""

    def __init__(self, tokenizer: Tokenizer, end_id: int) -> None:
        self.memo = PieceMemo(tokenizer)
        self.end_id = end_id

    def encode(self, examples: Sequence[Sequence[Segment]]) -> EncodedBatch:
        """Encodes examples, each with the end token behind it.

        The end token has the loss weight of the last segment. Raises TypeError for a
        text that is not a string.
        """
        segments = list(chain.from_iterable(examples))
        text_ids, lengths = self.memo.encode([text for text, _ in segments])
        # The end token counts to the last segment of its example.
        last = np.cumsum([len(example) for example in examples]) - 1
        lengths[last] += 1
        ends = np.cumsum(lengths)[last]
        ids = np.full(len(text_ids) + len(examples), self.end_id, dtype=np.uint32)
        is_text = np.ones(len(ids), dtype=bool)
        is_text[ends - 1] = False
        ids[is_text] = text_ids
        weights = np.array([weight for _, weight in segments], dtype=np.float32)
        return EncodedBatch(ids, np.repeat(weights, lengths), np.diff(ends, prepend=0))


class PieceMemo:
    """Remembers the tokens of pieces of text. They are numbered as they first come."""

    numbers: defaultdict[str, int]
    # Piece n has lengths[n] tokens in `ids`, from starts[n] on.
    ids: Ids
    starts: Ints
    lengths: Ints
    num_characters: int

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.pieces_of = _pieces_of(tokenizer)
        self._forget()

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Ints]:
        """Returns the tokens of all texts in one array, and how many each text has."""
        pieces = [self.pieces_of(text) for text in texts]
        numbers = self._numbers_of(chain.from_iterable(pieces))
        lengths = self.lengths[numbers]
        ends = _ends(lengths)
        # For each token of the texts, its place in `ids`.
        source = np.repeat(self.starts[numbers] - ends[:-1], lengths)
        source += np.arange(ends[-1])
        ids = self.ids[source]
        borders = ends[_ends(np.fromiter(map(len, pieces), np.int64, len(pieces)))]
        if (
            len(self.numbers) > MAX_KNOWN_PIECES
            or self.num_characters > MAX_KNOWN_CHARACTERS
        ):
            self._forget()
        return ids, np.diff(borders)

    def _numbers_of(self, pieces: Iterable[str]) -> Ints:
        num_known = len(self.numbers)
        numbers = np.fromiter(map(self.numbers.__getitem__, pieces), np.int64)
        num_new = len(self.numbers) - num_known
        if num_new:
            self._learn(list(islice(reversed(self.numbers), num_new))[::-1])
        return numbers

    def _learn(self, pieces: list[str]) -> None:
        encoded = self.tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
        tokens = [encoding.ids for encoding in encoded]
        new_ids = np.fromiter(chain.from_iterable(tokens), np.uint32)
        new_lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        self.ids = np.concatenate([self.ids, new_ids])
        self.lengths = np.concatenate([self.lengths, new_lengths])
        self.starts = _ends(self.lengths)[:-1]
        self.num_characters += sum(map(len, pieces))

    def _forget(self) -> None:
        self.numbers = defaultdict()
        # A new piece gets the next number.
        self.numbers.default_factory = self.numbers.__len__
        self.ids = np.empty(0, dtype=np.uint32)
        self.starts = np.empty(0, dtype=np.int64)
        self.lengths = np.empty(0, dtype=np.int64)
        self.num_characters = 0


def cuts_before_spaces(tokenizer: Tokenizer) -> bool:
    """Returns whether a piece has the same tokens alone as within its text.

    That is so if the tokenizer encodes each part between its cuts alone (BPE of bytes),
    cuts before every single space, and has no added token that reaches over one.
    """
    settings = json.loads(tokenizer.to_str())
    model = settings["model"]
    return (
        model["type"] == "BPE"
        and not model.get("dropout")
        # NFC never joins a space with a character before or after it.
        and settings["normalizer"] in (None, {"type": "NFC"})
        and _steps_cut(settings["pre_tokenizer"] or {})
        and not any(map(_looks_around, settings["added_tokens"]))
    )


def _pieces_of(tokenizer: Tokenizer) -> Callable[[str], list[str]]:
    if cuts_before_spaces(tokenizer):
        return PIECE.findall
    # The whole text is one piece: a first segment may be the same in all examples.
    return lambda text: [text]


def _steps_cut(pre_tokenizer: dict[str, Any]) -> bool:
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return all(map(_keeps_cuts, steps)) and any(map(_cuts, steps))


def _keeps_cuts(step: dict[str, Any]) -> bool:
    """Returns whether a step keeps earlier cuts, and adds nothing before a part."""
    if step.get("type") == "ByteLevel":
        return not step["add_prefix_space"]
    return step.get("type") == "Digits" or _cuts(step)


def _cuts(step: dict[str, Any]) -> bool:
    if step.get("type") == "ByteLevel":
        return bool(step["use_regex"])
    return (
        step.get("type") == "Split"
        and step["behavior"] == "Isolated"
        and not step["invert"]
        and step["pattern"].get("Regex") in CUTS_BEFORE_SPACES
    )


def _looks_around(token: dict[str, Any]) -> bool:
    if token["special"]:
        return False  # never found in a text, see load_tokenizer
    around = token["lstrip"] or token["rstrip"] or token["single_word"]
    return bool(around or re.search(r"\s", token["content"]))


def _ends(lengths: Ints) -> Ints:
    """Returns 0, and then where each of several consecutive parts ends."""
    ends = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends
