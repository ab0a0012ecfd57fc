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
from itertools import chain, compress, islice
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from jobs.trainer.text.encoding import TextEncoder
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
    """Examples as tokens, one behind the other, the same as from `encode_example`."""

    # [tokens] each.
    ids: Ids
    weights: npt.NDArray[np.float32]
    # [examples] each: the number of tokens, and whether the first one is context.
    lengths: Ints
    have_context: npt.NDArray[np.bool_]


class BulkEncoder:
    """Does the same as `encode_example` for very many examples, with arrays."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.memo = PieceMemo(encoder.tokenizer)
        is_plain = encoder.inner is encoder.tokenizer
        self.inner_memo = self.memo if is_plain else PieceMemo(encoder.inner)

    def encode(self, examples: Sequence[Sequence[Segment]]) -> EncodedBatch:
        """Encodes examples, each with the end token behind it.

        The end token has the loss weight of the last segment. Raises TypeError for a
        text that is not a string.
        """
        segments = list(chain.from_iterable(examples))
        text_ids, lengths = self._encode_texts(examples)
        segment_ends = np.cumsum([len(example) for example in examples])
        weights = np.array([weight for _, weight in segments], dtype=np.float32)
        end_weights = weights[segment_ends - 1]
        text_ends = _ends(lengths)[segment_ends]
        text_lengths = np.diff(text_ends, prepend=0)
        text_weights = np.repeat(weights, lengths)
        # An example without any text has nothing to begin with.
        firsts = np.append(text_weights, 0)[text_ends - text_lengths]
        have_context = (firsts > 0) & (text_lengths > 0)
        if self.encoder.begin_id is not None:
            have_context[:] = True
        all_lengths = text_lengths + have_context + 1
        ends = np.cumsum(all_lengths)
        contexts = (ends - all_lengths)[have_context]
        is_text = np.ones(ends[-1] if len(ends) else 0, dtype=bool)
        is_text[ends - 1] = is_text[contexts] = False
        ids = np.full(len(is_text), self.encoder.end_id, dtype=np.uint32)
        ids[contexts] = self.encoder.context_id
        ids[is_text] = text_ids
        all_weights = np.zeros(len(is_text), dtype=np.float32)
        all_weights[is_text] = text_weights
        all_weights[ends - 1] = end_weights
        return EncodedBatch(ids, all_weights, all_lengths, have_context)

    def _encode_texts(self, examples: Sequence[Sequence[Segment]]) -> tuple[Ids, Ints]:
        """Returns the tokens of all segments, and how many each segment has."""
        texts = [text for text, _ in chain.from_iterable(examples)]
        if self.inner_memo is self.memo:
            return self.memo.encode(texts)
        is_first = np.array([*chain.from_iterable(map(_mark_first, examples))], bool)
        parts = {
            first: memo.encode([*compress(texts, is_first == first)])
            for first, memo in ((True, self.memo), (False, self.inner_memo))
        }
        lengths = np.empty(len(texts), dtype=np.int64)
        for first, (_, some) in parts.items():
            lengths[is_first == first] = some
        of_first = np.repeat(is_first, lengths)
        ids = np.empty(len(of_first), dtype=np.uint32)
        for first, (some_ids, _) in parts.items():
            ids[of_first == first] = some_ids
        return ids, lengths


def _mark_first(example: Sequence[Segment]) -> list[bool]:
    """Returns for each segment whether the example's text begins with it or behind."""
    first = next((at for at, (text, _) in enumerate(example) if text), 0)
    return [at <= first for at in range(len(example))]


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
        # Some tokenizers put a space before nothing.
        tokens = [
            encoding.ids if piece else []
            for piece, encoding in zip(pieces, encoded, strict=True)
        ]
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
