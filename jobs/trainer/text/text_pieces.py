"""[contract] Turns tokens into text as they come, by whole characters, up to a stop."""

from collections.abc import Sequence

from tokenizers import Tokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# A character has at most 4 bytes, so at most 3 bytes can wait for the last one.
MAX_INCOMPLETE = 3
# Some tokenizers decode a token differently at the start of a text. So a token is
# always decoded behind a few tokens that came before it.
CONTEXT_TOKENS = 4
MAX_WINDOW_TOKENS = 16


class TextDecoder:
    """Returns the new text of each token. The bytes of an unfinished character wait."""

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self._restart(list(context[-CONTEXT_TOKENS:]))

    def _restart(self, window: list[int]) -> None:
        self.window = window
        self.shown = len(self.tokenizer.decode(window))

    def push(self, token: int) -> str:
        """Takes the next token; returns the text that is new with it."""
        self.window.append(token)
        text: str = self.tokenizer.decode(self.window)
        end = len(text) - _num_incomplete(text)
        new = text[self.shown : end]
        self.shown = max(self.shown, end)
        if end == len(text) and len(self.window) > MAX_WINDOW_TOKENS:
            self._restart(self.window[-CONTEXT_TOKENS:])
        return new

    def flush(self, num_marks: int) -> str:
        """Returns the replacement characters that waited, when no more tokens come.

        The last `num_marks` of the text stand for a character that stays unfinished,
        and are left out. The others were written.
        """
        text: str = self.tokenizer.decode(self.window)
        end = max(self.shown, len(text) - num_marks)
        new, self.shown = text[self.shown : end], end
        return new


def _num_incomplete(text: str) -> int:
    return min(len(text) - len(text.rstrip(REPLACEMENT)), MAX_INCOMPLETE)


class StopScanner:
    """Passes text on up to the first stop text, which may come in many pieces.

    It holds back an end of the text that may be the beginning of a stop text. `found`
    says whether a stop text has come.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop = [text for text in stop if text]
        self.held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Takes more text; returns what can be passed on now."""
        self.held += text
        found = [at for stop in self.stop if (at := self.held.find(stop)) >= 0]
        if found:
            self.found = True
            return self._release(min(found))
        return self._release(len(self.held) - self._longest_beginning())

    def flush(self) -> str:
        """Returns the text that is held back, when no more text comes."""
        return "" if self.found else self._release(len(self.held))

    def _release(self, end: int) -> str:
        text, self.held = self.held[:end], self.held[end:]
        return text

    def _longest_beginning(self) -> int:
        """Returns the length of the longest end that may begin a stop text."""
        return max(
            (
                length
                for stop in self.stop
                for length in range(1, len(stop))
                if self.held.endswith(stop[:length])
            ),
            default=0,
        )
