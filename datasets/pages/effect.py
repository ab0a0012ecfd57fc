"""Tells how much is learned from which part: the sentence on top of a dataset."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from datasets.drafts.draft import LAST, Change, Draft
from datasets.reading.tally import LATER, Part, part_of
from finetune_site.common.wording import count, weight, whole_percents
from jobs.trainer.text.examples import Segment

# With more edited examples than this, only the rules are taken into account.
MAX_EDITED_EXAMPLES = 500

NAMES = {
    (0, True): "single segments",
    (0, False): "first segments",
    (1, False): "second segments",
    (LATER, False): "middle segments",
}


TONES = ("", "mid", "low")


@dataclass
class Share:
    """How much is learned from a part of the examples that has a name.

    `mass` is loss weight times characters; `learned` and `read` are characters.
    """

    name: str
    mass: float = 0.0
    learned: int = 0
    read: int = 0
    weights: set[float] = field(default_factory=set)
    percent: int = 0
    # Where the share begins in the bar, in percent, and how it is drawn there.
    start: int = 0
    tone: str = ""

    @property
    def times(self) -> str:
        """The part's loss weight in words, which is a mean if it has several."""
        if len(self.weights) == 1:
            return weight(next(iter(self.weights)))
        return f"{self.mass / self.learned:.2g} on average"

    @property
    def characters(self) -> str:
        """How many characters of the part are learned, in words."""
        return count(self.learned)


class Shares(dict[str, Share]):
    """Shares by their names. A name that is new gets an empty share."""

    def __missing__(self, name: str) -> Share:
        self[name] = Share(name)
        return self[name]


@dataclass(frozen=True)
class Effect:
    """What is learned from which part. `read` counts characters of loss weight 0."""

    shares: list[Share]
    read: int
    # The name of the one share that there is; empty if there are several.
    only: str = ""

    @property
    def named(self) -> list[Share]:
        """The shares worth a place in the sentence: 0 % tells nobody anything."""
        return [share for share in self.shares if share.percent]


def effect_of(
    parts: list[Part],
    draft: Draft,
    read: Callable[[list[int]], Iterator[list[Segment]]],
) -> Effect | None:
    """Returns the effect of a version's parts with the draft laid over them.

    `read` yields examples by their numbers. Returns None if there are no parts.
    """
    if not parts:
        return None
    shares = Shares()
    for part in _with_rules(parts, draft.rules):
        _add(shares[_name(part.position, part.last)], part.weight, part.characters)
    if len(draft.edits) <= MAX_EDITED_EXAMPLES:
        _add_edits(shares, draft, read)
    return _effect(list(shares.values()))


def rule_name(segment: int) -> str:
    """Returns what people call the segments that a rule changes."""
    return {0: "first segment", 1: "second segment", LAST: "last segment"}.get(
        segment, f"segment {segment + 1}"
    )


def num_segments(parts: Iterable[Part], segment: int) -> int:
    """Returns how many segments a rule changes."""
    return sum(part.segments for part in parts if _covers(segment, part))


def _name(position: int, last: bool) -> str:
    return NAMES.get((position, last), "last segments")


def _covers(segment: int, part: Part) -> bool:
    return part.last if segment == LAST else part.position == segment


def _with_rules(parts: list[Part], rules: list[Change]) -> list[Part]:
    for rule in rules:
        parts = [
            replace(part, weight=rule.weight, mixed=False)
            if _covers(rule.segment, part)
            else part
            for part in parts
        ]
    return parts


def _add(share: Share, weight: float, characters: int) -> None:
    share.mass += weight * characters
    if weight > 0 and characters:
        share.learned += characters
        share.weights.add(weight)
    else:
        share.read += characters


def _add_edits(
    shares: Shares,
    draft: Draft,
    read: Callable[[list[int]], Iterator[list[Segment]]],
) -> None:
    rules = Draft(draft.rules)
    numbers = sorted(draft.edits)
    for number, segments in zip(numbers, read(numbers), strict=False):
        ruled, edited = rules.apply(number, segments), draft.apply(number, segments)
        for at, ((text, before), (_, after)) in enumerate(
            zip(ruled, edited, strict=True)
        ):
            if before == after:
                continue
            share = shares[_name(*part_of(segments, at))]
            share.mass -= before * len(text)
            share.learned -= len(text) if before > 0 else 0
            share.read -= 0 if before > 0 else len(text)
            _add(share, after, len(text))


def _effect(shares: list[Share]) -> Effect:
    read = sum(share.read for share in shares)
    learned = [share for share in shares if share.mass > 0]
    learned.sort(key=lambda share: share.mass, reverse=True)
    percents = whole_percents([share.mass for share in learned])
    for at, share in enumerate(learned):
        share.percent, share.start = percents[at], sum(percents[:at])
        share.tone = TONES[min(at, len(TONES) - 1)]
    only = learned[0].name if len(learned) == 1 else ""
    return Effect(learned, read, only)
