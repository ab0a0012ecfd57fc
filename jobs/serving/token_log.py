"""Lists tokens as OpenAI's clients read them: by name, with chances and places."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from jobs.trainer.answering.answer import Piece
from jobs.trainer.answering.token_choice import Chance
from jobs.trainer.text.byte_alphabet import BYTES, lettered_bytes, numbered_byte
from jobs.trainer.text.text_pieces import REPLACEMENT, TextDecoder

Log = dict[str, list[Any] | None]


class TokenNames:
    """The names of tokens: their text.

    A token that is no whole character is written as `bytes:\\xe2\\x98`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.known: dict[int, str] = {}

    def __getitem__(self, token: int) -> str:
        if token not in self.known:
            self.known[token] = self._name(token)
        return self.known[token]

    @cached_property
    def _before(self) -> list[int]:
        """A token to decode others after, since some read differently at the start."""
        return list(self.tokenizer.encode("a", add_special_tokens=False).ids[-1:])

    def _name(self, token: int) -> str:
        before = self._decode(self._before)
        text = self._decode([*self._before, token])[len(before) :]
        if REPLACEMENT not in text:
            return text
        return as_bytes(self.tokenizer.id_to_token(token) or "") or text

    def _decode(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=False)
        return text


def as_bytes(entry: str) -> str:
    """Returns a vocabulary's entry as text, or as its bytes where it is no text.

    The result is empty if the entry is not written byte by byte.
    """
    content = numbered_byte(entry) or lettered_bytes(entry)
    if content is None:
        return ""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return BYTES + "".join(f"\\x{byte:02x}" for byte in content)


class TokenLog:
    """The log of one answer's tokens.

    A token is told once its text was sent, and so never if it belongs to a stop text.
    Places are counted in characters from the beginning of the prompt.
    """

    def __init__(
        self, names: TokenNames, num_top: int, prompt: Sequence[int], place: int
    ) -> None:
        self.names = names
        self.num_top = num_top
        self.decoder = TextDecoder(names.tokenizer, prompt)
        # Where the next token begins, and up to where text was given.
        self.place = self.given = place
        self.waiting: list[tuple[int, int, Chance | None]] = []

    def push(self, token: int, chance: Chance | None) -> None:
        """Adds the next token."""
        self.waiting.append((self.place, token, chance))
        self.place += len(self.decoder.push(token))

    def take(self, pieces: Sequence[Piece]) -> Log:
        """Adds pieces of the answer; returns the log that goes out with their text."""
        for piece in pieces:
            self.given += len(piece.text)
            for token, chance in zip(piece.token_ids, piece.chances, strict=True):
                self.push(token, chance)
        if pieces[-1].finish_reason == "length":
            return self.take_all()
        log = self._told(sum(place < self.given for place, _, _ in self.waiting))
        if pieces[-1].finish_reason == "stop":
            self._cut_last(log)
        return log

    def _cut_last(self, log: Log) -> None:
        """Cuts the name of the last token where a stop text begins within it.

        So the names always join to the text of the answer.
        """
        names, places = log["tokens"], log["text_offset"]
        if names and places and not names[-1].startswith(BYTES):
            names[-1] = names[-1][: self.given - places[-1]]

    def take_all(self) -> Log:
        """Returns the log of all tokens that were not told yet."""
        return self._told(len(self.waiting))

    def _told(self, number: int) -> Log:
        told, self.waiting = self.waiting[:number], self.waiting[number:]
        return {
            "tokens": [self.names[token] for _, token, _ in told],
            "token_logprobs": [chance and chance.logprob for _, _, chance in told],
            "top_logprobs": [self._top(token, chance) for _, token, chance in told]
            if self.num_top
            else None,
            "text_offset": [place for place, _, _ in told],
        }

    def _top(self, token: int, chance: Chance | None) -> dict[str, float] | None:
        """Returns the likeliest tokens, and the chosen one if it is none of them."""
        if chance is None:
            return None
        named: dict[str, float] = {}
        for one, logprob in (*chance.top[: self.num_top], (token, chance.logprob)):
            # Two tokens may have one name; the likelier comes first.
            named.setdefault(self.names[one], logprob)
        return named
