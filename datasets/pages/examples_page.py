"""Everything the page of examples shows of a version and its draft."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from datasets.drafts.draft import Change, Draft
from datasets.models import DatasetVersion, DraftChange
from datasets.pages.effect import effect_of, num_segments, rule_name
from datasets.pages.forms import RULES
from datasets.pages.preview import Preview, preview_of
from datasets.pages.shown_examples import clip, page_of_examples, page_with
from datasets.reading.tally import Part
from datasets.selectors import draft_of, example_of, last_saving_change
from datasets.stored.files import read_these
from finetune_site.common.errors import UserError
from finetune_site.common.wording import whole_percents
from jobs.trainer.text.examples import Segment

MAX_EDITED_CHARACTERS = 2000
MAX_EDITED_SEGMENTS = 200
MAX_RULE_CHIPS = 12


@dataclass(frozen=True)
class EditedSegment:
    """A segment in the form that changes one example. `number` counts from 1."""

    number: int
    text: str
    characters_left_out: int
    weight: float
    # The weight as the number field writes it, with every digit.
    value: str


@dataclass(frozen=True)
class EditedExample:
    """The example that is being changed, with the tokens of it. `number` is from 1."""

    number: int
    segments: list[EditedSegment]
    segments_left_out: int
    preview: Preview
    # (segment number, percent of this example's learning), the largest first.
    percents: list[tuple[int, int]]


@dataclass(frozen=True)
class Rule:
    """A rule of the draft, as the page lists it."""

    change: Change
    name: str
    can_undo: bool


def examples_page(
    version: DatasetVersion, *, page: int, go_to: int, edit: int
) -> dict[str, Any]:
    """Returns the context of the page of examples.

    `page`, `go_to` (an example) and `edit` (an example) count from 1; 0 means not asked
    for.
    """
    draft = draft_of(version)
    parts = [Part(**share) for share in version.shares]
    wanted = min(go_to or (0 if page else edit), version.num_examples)
    shown = page_of_examples(version, page_with(wanted) if wanted else page or 1, draft)
    return {
        "page": shown,
        "going_to": wanted if go_to else "",
        "draft": _draft(version, draft),
        "effect": effect_of(parts, draft, partial(read_these, version.examples_path)),
        "rule_choices": [
            (segment, words, num_segments(parts, segment))
            for segment, words in RULES
            if num_segments(parts, segment)
        ],
        "editing": _editing(version, draft, edit),
    }


def _draft(version: DatasetVersion, draft: Draft) -> dict[str, Any] | None:
    if not draft:
        return None
    saving = last_saving_change(version)
    rules = [
        Rule(rule, rule_name(rule.segment), rule.id > saving) for rule in draft.rules
    ]
    changes = DraftChange.objects.filter(version=version).select_related("created_by")
    return {
        "num_rules": len(rules),
        "rules": rules[-MAX_RULE_CHIPS:],
        "num_edited": len(draft.edits),
        "last": changes.order_by("-id").first(),
        "can_undo": draft.changes[-1].id > saving,
        "undo_name": _name(draft.changes[-1]),
    }


def _name(change: Change) -> str:
    if change.example is None:
        return f"loss weight of every {rule_name(change.segment)}"
    return (
        f"loss weight of segment {change.segment + 1} in example {change.example + 1:,}"
    )


def _editing(version: DatasetVersion, draft: Draft, edit: int) -> EditedExample | None:
    if not edit:
        return None
    try:
        segments = draft.apply(edit - 1, example_of(version, edit - 1))
    except UserError:
        return None
    preview = preview_of(segments)
    return EditedExample(
        edit,
        [
            _edited(number, segment)
            for number, segment in enumerate(segments[:MAX_EDITED_SEGMENTS], start=1)
        ],
        max(0, len(segments) - MAX_EDITED_SEGMENTS),
        preview,
        _percents(segments, preview),
    )


def _edited(number: int, segment: Segment) -> EditedSegment:
    [(text, weight)], left_out = clip([segment], MAX_EDITED_CHARACTERS)
    short = f"{weight:g}"
    value = short if float(short) == weight else repr(weight)
    return EditedSegment(number, text, left_out, weight, value)


def _percents(segments: list[Segment], preview: Preview) -> list[tuple[int, int]]:
    """Returns how much of the example's learning each segment is, by tokens."""
    masses = [0.0] * len(segments)
    for token in preview.tokens:
        masses[token.segment] += token.weight
    percents = enumerate(whole_percents(masses), start=1)
    shares = [(number, percent) for number, percent in percents if percent]
    return sorted(shares, key=lambda share: share[1], reverse=True)
