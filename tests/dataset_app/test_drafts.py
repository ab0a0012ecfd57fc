"""Changes of loss weights: precedence, undo, saving as the next version."""

from functools import partial

import pytest

from datasets import services
from datasets.models import DatasetVersion, DraftChange
from datasets.pages.effect import effect_of
from datasets.pages.shown_examples import page_of_examples
from datasets.reading.tally import Part
from datasets.selectors import draft_of, example_of, list_versions
from datasets.stored.files import read_these
from finetune_site.common.errors import UserError
from finetune_site.team.models import AuditEntry
from jobs.trainer.text import examples
from tests.support import factories

LAST = -1


@pytest.fixture
def version(db):
    return factories.make_dataset(
        examples=[
            [("Q1 ", 0.1), ("A1", 0.9)],
            [("Q2 ", 0.1), ("A2", 0.9)],
            [("only", 1.0)],
        ]
    )


@pytest.fixture
def change(member, version):
    def change(segment, weight, example=None):
        return services.change_weight(
            member=member,
            version=version,
            segment=segment,
            weight=weight,
            example=example,
        )

    return change


def save(member, version, **choices):
    saved = services.save_draft(member=member, version=version, **choices)
    services.import_version(version_id=saved.pk)
    saved.refresh_from_db()
    return saved


def weights(version, draft=None):
    page = page_of_examples(version, 1, draft or draft_of(version))
    return [[weight for _, weight in shown.segments] for shown in page.examples]


def test_a_rule_reaches_that_segment_of_every_example(version, change):
    change(1, 0.5)
    assert weights(version) == [[0.1, 0.5], [0.1, 0.5], [1.0]]


def test_the_last_segment_is_the_last_whatever_their_number(version, change):
    change(LAST, 0)
    assert weights(version) == [[0.1, 0], [0.1, 0], [0]]


def test_the_later_change_wins_rule_or_edit(version, change):
    change(0, 0.3, example=0)
    change(0, 0.2)
    change(0, 0.4, example=1)
    assert weights(version) == [[0.2, 0.9], [0.4, 0.9], [0.2]]


def test_undo_takes_the_last_change_away(member, version, change):
    change(0, 0.2)
    change(0, 0.3)
    assert services.undo_change(member=member, version=version)
    assert weights(version)[0] == [0.2, 0.9]


def test_one_rule_can_be_removed(member, version, change):
    first = change(0, 0.2)
    change(1, 0.3)
    services.undo_change(member=member, version=version, change_id=first.pk)
    assert weights(version)[0] == [0.1, 0.3]


def test_undo_without_a_draft_does_nothing(member, version):
    assert not services.undo_change(member=member, version=version)


def test_a_change_of_another_version_cannot_be_undone_here(member, version, change):
    other = factories.make_dataset()
    made = change(0, 0.2)
    assert not services.undo_change(member=member, version=other, change_id=made.pk)


def test_discarding_leaves_the_version_as_it_is(member, version, change):
    change(0, 0.2)
    assert services.discard_draft(member=member, version=version) == 1
    assert weights(version)[0] == [0.1, 0.9]


@pytest.mark.parametrize("weight", [-0.1, 1e-7, 100.1, float("nan"), float("inf")])
def test_a_weight_is_one_that_can_be_learned_with(change, weight):
    with pytest.raises(UserError, match="from 1e-06 to 100"):
        change(0, weight)


def test_an_example_has_only_so_many_segments(change):
    with pytest.raises(UserError, match="Example 3 has no segment 2"):
        change(1, 0.5, example=2)


def test_an_example_that_is_not_there_is_named(change):
    with pytest.raises(UserError, match="There is no example 4"):
        change(0, 0.5, example=3)


def test_only_what_differs_becomes_a_change(member, version):
    services.change_example(member=member, version=version, example=0, weights=[0.1, 1])
    assert list(DraftChange.objects.values_list("segment", "weight")) == [(1, 1.0)]


def test_saving_writes_the_next_version(member, version, change):
    change(0, 0)
    change(1, 0.5, example=1)
    saved = save(member, version, note="Questions are only read")
    assert (saved.number, saved.parent, saved.status) == (2, version, "ready")
    assert list(examples.iter_examples(saved.examples_path)) == [
        [("Q1 ", 0), ("A1", 0.9)],
        [("Q2 ", 0), ("A2", 0.5)],
        [("only", 0)],
    ]
    assert not DraftChange.objects.exists()


def test_the_parent_stays_as_it_is(member, version, change):
    before = version.examples_path.read_bytes()
    change(0, 0)
    save(member, version)
    assert version.examples_path.read_bytes() == before


def test_a_change_made_while_saving_is_kept_for_the_new_version(
    member, version, change
):
    change(0, 0)
    saved = services.save_draft(member=member, version=version)
    late = change(1, 0.7)
    services.import_version(version_id=saved.pk)
    late.refresh_from_db()
    assert (late.version, DraftChange.objects.count()) == (saved, 1)
    assert example_of(saved, 0) == [("Q1 ", 0), ("A1", 0.9)]


def test_what_is_being_saved_cannot_be_undone_or_discarded(member, version, change):
    change(0, 0)
    services.save_draft(member=member, version=version)
    assert not services.undo_change(member=member, version=version)
    assert services.discard_draft(member=member, version=version) == 0


def test_saving_twice_at_once_is_refused(member, version, change):
    change(0, 0)
    services.save_draft(member=member, version=version)
    with pytest.raises(UserError, match="Version 2 is being made"):
        services.save_draft(member=member, version=version)


def test_an_empty_draft_is_not_saved(member, version):
    with pytest.raises(UserError, match="nothing to save"):
        services.save_draft(member=member, version=version)


def test_a_save_that_fails_keeps_the_draft(member, version, change):
    change(0, 0)
    version.examples_path.unlink()
    saved = save(member, version)
    assert saved.status == DatasetVersion.Status.FAILED
    assert "Ask an admin" in saved.status_message
    assert DraftChange.objects.filter(version=version).count() == 1


def test_joining_makes_a_version_and_takes_the_draft_along(member, change):
    version = factories.make_dataset(examples=[[("India", 0.1), ("New Delhi", 0.9)]])
    services.change_weight(member=member, version=version, segment=0, weight=0)
    joined = services.rejoin_version(member=member, version=version, joiner=" ")
    services.import_version(version_id=joined.pk)
    joined.refresh_from_db()
    assert example_of(joined, 0) == [("India", 0.1), (" New Delhi", 0.9)]
    assert weights(joined) == [[0, 0.9]]
    assert joined.num_unspaced == 0


def test_the_effect_is_exact_with_rules_and_edits(version, change):
    parts = [
        Part(0, False, 0.1, 2, 6),
        Part(1, True, 0.9, 2, 4),
        Part(0, True, 1.0, 1, 4),
    ]
    change(1, 1)
    change(0, 0, example=0)
    effect = effect_of(
        parts, draft_of(version), partial(read_these, version.examples_path)
    )
    masses = {share.name: round(share.mass, 9) for share in effect.shares}
    assert masses == {
        "last segments": 4,
        "single segments": 4,
        "first segments": 0.3,
    }
    assert effect.read == 3
    assert sum(share.percent for share in effect.shares) == 100


def test_the_sentence_leaves_out_what_rounds_to_nothing(version):
    parts = [Part(1, True, 1.0, 2, 9000), Part(0, False, 0.1, 2, 10)]
    effect = effect_of(
        parts, draft_of(version), partial(read_these, version.examples_path)
    )
    assert [share.name for share in effect.named] == ["last segments"]
    assert len(effect.shares) == 2


def test_weights_and_their_undo_are_on_record(member, version, change):
    change(LAST, 0.2)
    services.change_example(
        member=member, version=version, example=1, weights=[0.5, 0.5]
    )
    services.undo_change(member=member, version=version)
    lines = AuditEntry.objects.order_by("id").filter(action__startswith="dataset.")
    assert [(line.action, line.member, line.detail) for line in lines] == [
        (
            "dataset.weights",
            member,
            {"example": None, "segment": "last", "weight": 0.2},
        ),
        ("dataset.weights", member, {"example": 2, "segments": 2}),
        ("dataset.undo_weights", member, {"example": 2, "weight": 0.5}),
    ]


def test_numbers_of_jobs_and_changes_do_not_multiply(member, version, change):
    for _ in range(3):
        change(0, 0.2)
        factories.make_job(version)
    for _ in range(2):
        factories.make_job(validation_version=version)
    [found] = list_versions(version.dataset)
    assert (found.num_jobs, found.num_changes) == (5, 3)
