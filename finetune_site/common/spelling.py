"""Finds the known name that somebody meant."""

from collections.abc import Iterable

# So many letters may be wrong in a name that is long enough to be told from others.
MAX_EDITS = 2
LETTERS_PER_EDIT = 3


def edits_between(one: str, other: str) -> int:
    """Returns how many letters must be added, left out, changed, or swapped with their
    neighbours: the distance of optimal string alignment.
    """
    before: list[int] = []
    above = list(range(len(other) + 1))
    for row, letter in enumerate(one, start=1):
        line = [row]
        for column, wanted in enumerate(other, start=1):
            changed = above[column - 1] + (letter != wanted)
            edits = min(above[column] + 1, line[-1] + 1, changed)
            pair = one[row - 2 : row]
            if len(pair) == 2 and pair[::-1] == other[column - 2 : column]:
                edits = min(edits, before[column - 2] + 1)
            line.append(edits)
        before, above = above, line
    return above[-1]


def misspelt(name: str, known: Iterable[str]) -> str:
    """Returns the known name of which `name` is a misspelling, or "".

    At most one letter in three may differ, and at most two in all.
    """
    edits, nearest = min(
        ((edits_between(name, one), one) for one in known), default=(MAX_EDITS + 1, "")
    )
    allowed = min(MAX_EDITS, len(nearest) // LETTERS_PER_EDIT)
    return nearest if 0 < edits <= allowed else ""
