"""Gives each step its rows, which depend on the seed only."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from jobs.base_models.pretraining.errors import BuildError
from jobs.base_models.pretraining.vocabulary import END_ID
from jobs.trainer.text.encoding import encode_text

Ids = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Stage:
    """A part of the training: its share of all steps, and its row length in tokens."""

    share: float
    length: int


@dataclass(frozen=True)
class EncodedSource:
    """The documents of a source as tokens, each with an end token before it."""

    documents: list[Ids]
    # How often a round goes through the source.
    passes: int

    @property
    def num_tokens(self) -> int:
        """The number of tokens in all documents."""
        return sum(map(len, self.documents))


def encode_document(tokenizer: Tokenizer, text: str) -> Ids:
    """Returns the tokens of a document, with an end token before them."""
    return np.array([END_ID, *encode_text(tokenizer, text)], dtype=np.uint16)


class Rows:
    """Makes rows without end, round after round.

    A round goes through every source as often as its `passes` say.
    """

    def __init__(
        self,
        sources: Sequence[EncodedSource],
        stages: Sequence[Stage],
        *,
        tokens_per_step: int,
        total_steps: int,
        seed: int,
    ) -> None:
        self.sources = sources
        self.stages = stages
        self.tokens_per_step = tokens_per_step
        self.seed = seed
        shares = np.cumsum([stage.share for stage in stages])
        # The last step of each stage.
        self.ends = [round(share / shares[-1] * total_steps) for share in shares]
        self._check()
        self._round = lru_cache(maxsize=1)(self._make_round)

    def _check(self) -> None:
        longest = max(stage.length for stage in self.stages)
        if self.tokens_per_step % longest:
            raise BuildError(
                f"A step of {self.tokens_per_step:,} tokens is not made of whole rows: "
                f"take a multiple of {longest:,}."
            )
        if any(
            self._num_rows(stage.length) * stage.length < self.tokens_per_step
            for stage in self.stages
        ):
            raise BuildError("The texts do not fill one step: take more of them.")

    @property
    def longest_used(self) -> int:
        """The length in tokens of the longest row that a step has.

        In a short build a stage may have no step.
        """
        begins = [0, *self.ends]
        return max(
            stage.length
            for stage, first, last in zip(self.stages, begins, self.ends, strict=False)
            if last > first
        )

    def of_step(self, step: int) -> Ids:
        """Returns the rows of a step, counted from 1: [rows, length + 1].

        The targets are the inputs shifted by one token.
        """
        number = next(n for n, end in enumerate(self.ends) if step <= end)
        length = self.stages[number].length
        first = self.ends[number - 1] if number else 0
        at_once = self.tokens_per_step // length
        steps_a_round = self._num_rows(length) // at_once
        round_number, place = divmod(step - 1 - first, steps_a_round)
        rows = self._round(number, round_number)
        return rows[place * at_once : (place + 1) * at_once]

    def _num_rows(self, length: int) -> int:
        tokens = sum(source.num_tokens * source.passes for source in self.sources)
        return (tokens - 1) // length

    def _make_round(self, stage: int, number: int) -> Ids:
        """Returns the rows of a round: [rows, length + 1].

        The documents stand one behind the other in a random order, and are cut into
        rows.
        """
        random = np.random.default_rng([self.seed, stage, number])
        documents = [
            document
            for source in self.sources
            for _ in range(source.passes)
            for document in source.documents
        ]
        order = random.permutation(len(documents))
        tokens = np.concatenate([documents[at] for at in order])
        length = self.stages[stage].length
        starts = random.permutation(self._num_rows(length)) * length
        return tokens[starts[:, None] + np.arange(length + 1)]
