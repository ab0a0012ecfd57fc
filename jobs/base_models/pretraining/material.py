"""What a build learns from and is measured by, read and checked before it starts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tokenizers import Tokenizer

from jobs.base_models.pretraining.measuring import LONG_WINDOW_TOKENS
from jobs.base_models.pretraining.rows import (
    EncodedSource,
    encode_document,
    encode_sources,
)
from jobs.base_models.pretraining.slurs import read_slurs
from jobs.base_models.pretraining.texts import (
    HELD_OUT,
    PASSAGE_WORDS,
    Source,
    TextsError,
    passages_of,
    read_held_out,
    read_sources,
    without_passages,
    without_slurs,
)
from jobs.base_models.pretraining.vocabulary import train_tokenizer
from jobs.trainer.encoding import load_tokenizer

logger = logging.getLogger("build_tiny")


@dataclass(frozen=True)
class Material:
    sources: Sequence[Source]
    # The same as tokens, in the same order.
    encoded: Sequence[EncodedSource]
    held_out: Sequence[Source]
    tokenizer: Tokenizer

    @property
    def digest(self) -> str:
        """Of the texts that are learned from: a build that goes on needs the same."""
        digest = sha256()
        for source in self.sources:
            for document in source.documents:
                digest.update(document.encode() + b"\0")
        return digest.hexdigest()


def prepare(
    texts: Path, out: Path, vocabulary: int, passes: Mapping[str, int]
) -> Material:
    """Raises TextsError. The tokenizer that lies in `out` is kept, or made there."""
    held_out = read_held_out(texts)
    sources = learnable(read_sources(texts), held_out)
    tokenizer = _tokenizer_in(out, sources, vocabulary)
    _check_held_out(held_out, tokenizer)
    encoded = encode_sources(tokenizer, sources, passes)
    for source, tokens in zip(sources, encoded, strict=True):
        logger.info(
            "%s: %s tokens, %d a round",
            source.name,
            f"{tokens.num_tokens:,}",
            tokens.passes,
        )
    return Material(sources, encoded, held_out, tokenizer)


def learnable(
    sources: Sequence[Source], held_out: Sequence[Source]
) -> Sequence[Source]:
    """Without what is kept for measuring, and what must not be said."""
    passages, slurs = passages_of(held_out), read_slurs()
    kept = []
    for source in sources:
        rest, num_shared = without_passages(source, passages)
        rest, num_coarse = without_slurs(rest, slurs)
        if num_shared:
            logger.info(
                "%s: dropped %d paragraphs that share %d words in a row with held-out "
                "text",
                source.name,
                num_shared,
                PASSAGE_WORDS,
            )
        if num_coarse:
            logger.info("%s: dropped %d paragraphs with slurs", source.name, num_coarse)
        kept.append(rest)
    return kept


def _tokenizer_in(out: Path, sources: Sequence[Source], size: int) -> Tokenizer:
    path = out / "tokenizer.json"
    if not path.exists():
        documents = (text for source in sources for text in source.documents)
        train_tokenizer(documents, size).save(str(path))
    return load_tokenizer(out)


def _check_held_out(held_out: Sequence[Source], tokenizer: Tokenizer) -> None:
    """Better now than when all is learned and nothing can be measured."""
    for source in held_out:
        num_tokens = sum(
            len(encode_document(tokenizer, text)) for text in source.documents
        )
        if num_tokens <= LONG_WINDOW_TOKENS:
            raise TextsError(
                f"{HELD_OUT}{source.name}.txt has {num_tokens:,} tokens, too few to "
                f"measure by: it needs more than {LONG_WINDOW_TOKENS:,}. Make it "
                "longer, or take it away."
            )
