"""[torch] Reads and checks what a build learns from and what it is measured by."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tokenizers import Tokenizer

from jobs.base_models.pretraining.errors import BuildError
from jobs.base_models.pretraining.measuring import LONG_WINDOW_TOKENS
from jobs.base_models.pretraining.rows import EncodedSource, encode_document
from jobs.base_models.pretraining.slurs import read_slurs
from jobs.base_models.pretraining.texts import (
    HELD_OUT,
    PASSAGE_WORDS,
    Source,
    passages_of,
    read_held_out,
    read_sources,
    without_documents,
    without_passages,
    without_slurs,
)
from jobs.base_models.pretraining.vocabulary import train_tokenizer

logger = logging.getLogger("build_tiny")


@dataclass(frozen=True)
class Texts:
    """The texts of a build: those to learn from, and those to measure by."""

    sources: Sequence[Source]
    held_out: Sequence[Source]

    @property
    def names(self) -> list[str]:
        """The names of the sources that are learned from."""
        return [source.name for source in self.sources]

    @property
    def digest(self) -> str:
        """The SHA-256 of the sources that are learned from, with their names.

        By its name a build decides how often it goes through a source.
        """
        digest = sha256()
        for source in self.sources:
            for text in (source.name, *source.documents):
                digest.update(text.encode() + b"\0")
        return digest.hexdigest()


@dataclass(frozen=True)
class Material:
    """The texts of a build with their tokenizer and tokens."""

    texts: Texts
    tokenizer: Tokenizer
    # The sources as tokens, in the same order.
    encoded: Sequence[EncodedSource]


def read_texts(folder: Path) -> Texts:
    """Reads the texts of a folder and cleans them; raises BuildError."""
    held_out = read_held_out(folder)
    sources = learnable(read_sources(folder), held_out)
    for source in sources:
        if not source.documents:
            raise BuildError(
                f"{source.name}.txt holds nothing to learn from, or nothing that is "
                "not held out, too. Take it away."
            )
    return Texts(sources, held_out)


def learnable(
    sources: Sequence[Source], held_out: Sequence[Source]
) -> Sequence[Source]:
    """Returns the sources without slurs and without what is kept for measuring."""
    passages, slurs = passages_of(held_out), read_slurs()
    kept = []
    for source in sources:
        rest, num_coarse = without_slurs(source, slurs)
        rest, num_known = without_documents(rest, held_out)
        rest, num_shared = without_passages(rest, passages)
        for number, what in (
            (num_coarse, "lines with slurs"),
            (num_known, "documents that are held out, too"),
            (
                num_shared,
                f"lines that share {PASSAGE_WORDS} words in a row with held-out text",
            ),
        ):
            if number:
                logger.info("%s: dropped %s %s", source.name, f"{number:,}", what)
        kept.append(rest)
    return kept


def new_tokenizer(texts: Texts, size: int) -> Tokenizer:
    """Returns a tokenizer of `size` tokens, made from the texts to learn from."""
    return train_tokenizer(
        (text for source in texts.sources for text in source.documents), size
    )


def encode_texts(
    texts: Texts, tokenizer: Tokenizer, passes: Mapping[str, int]
) -> Material:
    """Returns the texts as tokens.

    `passes` says by name how often a round goes through a source, if not once.
    """
    _check_held_out(texts.held_out, tokenizer)
    encoded = []
    for source in texts.sources:
        documents = [encode_document(tokenizer, text) for text in source.documents]
        one = EncodedSource(documents, passes.get(source.name, 1))
        encoded.append(one)
        logger.info(
            "%s: %s documents of %s tokens in all, read %s in a round",
            source.name,
            f"{len(documents):,}",
            f"{one.num_tokens:,}",
            "once" if one.passes == 1 else f"{one.passes} times",
        )
    return Material(texts, tokenizer, encoded)


def _check_held_out(held_out: Sequence[Source], tokenizer: Tokenizer) -> None:
    """Raises BuildError if a held-out text is too short to measure by.

    It is checked before the training, since afterwards the time would be lost.
    """
    for source in held_out:
        num_tokens = sum(
            len(encode_document(tokenizer, text)) for text in source.documents
        )
        if num_tokens <= LONG_WINDOW_TOKENS:
            raise BuildError(
                f"{HELD_OUT}{source.name}.txt has {num_tokens:,} tokens, too few to "
                f"measure by: it needs more than {LONG_WINDOW_TOKENS:,}. Make it "
                "longer, or take it away."
            )
