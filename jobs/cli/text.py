"""Makes text safe for a terminal, and makes tables of it."""

import unicodedata
from collections.abc import Iterable, Sequence

# Characters that turn the rest of a line around, so that it reads as something else.
BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
SHOWN_INSTEAD = "\ufffd"

# Between two columns of a table.
GAP = "   "


def printable(text: str) -> str:
    """Returns the text without control characters.

    What a model wrote must not steer the terminal.
    """
    if text.isprintable():
        return text
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    if character in "\n\t":
        return character
    is_control = unicodedata.category(character) in {"Cc", "Cs"}
    return SHOWN_INSTEAD if is_control or character in BIDI_CONTROLS else character


def indented(text: str, by: str) -> str:
    """Returns the text with `by` before each line but the first."""
    return printable(text).replace("\n", "\n" + by)


def one_line(text: str, most: int) -> str:
    """Returns the beginning of a text on one line of `most` characters at most."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Returns a table. It is as wide as its cells need, because a pipe has no width."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        GAP.join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    )
