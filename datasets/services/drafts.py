"""Changes loss weights in a draft and turns drafts into versions."""

import shutil

from django.db import transaction
from django.db.models import QuerySet

from datasets.drafts.draft import LAST
from datasets.models import DatasetVersion, DraftChange
from datasets.selectors import draft_of, example_of, last_saving_change
from datasets.services.versions import add_version
from datasets.stored.import_request import ImportRequest
from finetune_site.common.errors import UserError
from finetune_site.team.models import Member
from finetune_site.team.services import record
from jobs.trainer.text.examples import (
    MAX_LOSS_WEIGHT,
    MIN_LOSS_WEIGHT,
    is_loss_weight,
)


def change_weight(
    *,
    member: Member,
    version: DatasetVersion,
    segment: int,
    weight: float,
    example: int | None = None,
) -> DraftChange:
    """Changes a loss weight of one example, or without `example` of every example.

    Raises UserError if the version is not ready, or has no such segment or example.
    """
    check_ready(version)
    check_weight(weight)
    if segment < LAST:
        raise UserError("There is no such segment.", field="segment")
    if example is not None and segment >= len(example_of(version, example)):
        raise UserError(
            f"Example {example + 1:,} has no segment {segment + 1}. "
            "Load the page again.",
            field="segment",
        )
    with transaction.atomic():
        record(
            member=member,
            action="dataset.weights",
            subject=str(version),
            example=None if example is None else example + 1,
            segment=segment + 1 if segment != LAST else "last",
            weight=weight,
        )
        return DraftChange.objects.create(
            version=version,
            example=example,
            segment=segment,
            weight=weight,
            created_by=member,
        )


def change_example(
    *, member: Member, version: DatasetVersion, example: int, weights: list[float]
) -> int:
    """Sets the weights of an example's first segments.

    Returns how many weights were changed by it.
    """
    check_ready(version)
    shown = draft_of(version).apply(example, example_of(version, example))
    if len(weights) > len(shown):
        raise UserError(
            f"Example {example + 1:,} has {len(shown)} segments. Load the page again."
        )
    for weight in weights:
        check_weight(weight)
    changed = [
        number
        for number, ((_, before), weight) in enumerate(
            zip(shown, weights, strict=False)
        )
        if weight != before
    ]
    rows = [
        DraftChange(
            version=version,
            example=example,
            segment=number,
            weight=weights[number],
            created_by=member,
        )
        for number in changed
    ]
    if rows:
        with transaction.atomic():
            DraftChange.objects.bulk_create(rows)
            record(
                member=member,
                action="dataset.weights",
                subject=str(version),
                example=example + 1,
                segments=len(rows),
            )
    return len(rows)


def undo_change(
    *, member: Member, version: DatasetVersion, change_id: int | None = None
) -> bool:
    """Takes the last change away, or the given one. Returns False if there is none."""
    changes = _open_changes(version)
    change = changes.filter(pk=change_id) if change_id else changes
    last = change.order_by("-id").first()
    if last is None or not changes.filter(pk=last.pk).delete()[0]:
        return False
    record(
        member=member,
        action="dataset.undo_weights",
        subject=str(version),
        example=None if last.example is None else last.example + 1,
        weight=last.weight,
    )
    return True


def discard_draft(*, member: Member, version: DatasetVersion) -> int:
    """Takes all changes away that are not being saved. Returns how many."""
    num_changes, _ = _open_changes(version).delete()
    if num_changes:
        record(
            member=member,
            action="dataset.discard_draft",
            subject=str(version),
            changes=num_changes,
        )
    return num_changes


def save_draft(
    *, member: Member, version: DatasetVersion, note: str = ""
) -> DatasetVersion:
    """Makes the next version, which is this one with its draft.

    The version is `importing` at first. Changes made while it is written belong to the
    new version's draft.
    """
    draft = draft_of(version)
    if not draft:
        raise UserError("There is nothing to save: the draft has no change.")
    check_ready(version)
    saved = DatasetVersion(note=note.strip()[:200])
    request = ImportRequest(kind="draft", changes=draft.as_json())
    return add_child(member, version, saved, request, "dataset.save_draft")


def rejoin_version(
    *, member: Member, version: DatasetVersion, joiner: str
) -> DatasetVersion:
    """Makes the next version, with `joiner` where segments meet without white space.

    A draft moves to the new version as it is.
    """
    names = {" ": "a space", "\n": "a new line"}
    if joiner not in names:
        raise UserError("Choose a space or a new line.", field="joiner")
    check_ready(version)
    joined = DatasetVersion(joiner=joiner, note=f"Segments joined by {names[joiner]}")
    request = ImportRequest(kind="draft")
    return add_child(member, version, joined, request, "dataset.rejoin")


def add_child(
    member: Member | None,
    parent: DatasetVersion,
    child: DatasetVersion,
    request: ImportRequest,
    action: str,
) -> DatasetVersion:
    """Adds a version that is made from another one, and has it written."""
    child.parent = parent
    child.created_by = member
    child.source_name = parent.source_name
    child.bytes_total = parent.num_bytes
    child.folder.mkdir(parents=True, mode=0o700)
    try:
        request.write(child.folder)
        with transaction.atomic():
            # The lock lets only one of two people who save at once come through here.
            DatasetVersion.objects.select_for_update().get(pk=parent.pk)
            if request.kind == "draft":
                _check_not_saving(parent)
            add_version(dataset=parent.dataset, version=child)
            record(member=member, action=action, subject=str(child))
    except BaseException:
        shutil.rmtree(child.folder, ignore_errors=True)
        raise
    return child


def _open_changes(version: DatasetVersion) -> QuerySet[DraftChange]:
    """Returns the changes that are in no version which is being written."""
    return DraftChange.objects.filter(
        version=version, id__gt=last_saving_change(version)
    )


def check_ready(version: DatasetVersion) -> None:
    """Raises UserError if the version's import is not over or has failed."""
    if version.status != DatasetVersion.Status.READY:
        raise UserError(f"{version} is not ready. Wait for its import to end.")


def _check_not_saving(version: DatasetVersion) -> None:
    saving = DatasetVersion.objects.filter(
        parent=version, status=DatasetVersion.Status.IMPORTING
    ).first()
    if saving:
        raise UserError(
            f"Version {saving.number} is being made from this one at the moment. Wait "
            "until it is ready."
        )


def check_weight(weight: float, field: str = "weight") -> None:
    """Raises UserError, at `field`, if the number is no loss weight."""
    if not is_loss_weight(weight):
        raise UserError(
            "A loss weight is 0 (read, not learned) or a number from "
            f"{MIN_LOSS_WEIGHT:g} to {MAX_LOSS_WEIGHT:g} (1 = learned fully).",
            field=field,
        )
