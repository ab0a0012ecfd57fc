"""The background half of an import: from the request to a version that is ready.

Any process may be killed at any point. Whoever claims the version next starts over and
comes to the same bytes.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django_q.brokers import get_broker

from datasets.drafts.draft import Change, Draft, read_changed
from datasets.models import DatasetVersion, DraftChange
from datasets.reading.alike import alike
from datasets.reading.batches import BadLine, ImportBatch, read_jsonl
from datasets.reading.mapping import Mapping, read_table
from datasets.reading.plain_text import read_text
from datasets.reading.tables import open_table
from datasets.reading.tally import Tally
from datasets.services.claims import CLAIM_SECONDS, Claim, unclaimed
from datasets.services.reweighting import check_prompts
from datasets.services.uploads import remove_upload
from datasets.services.versions import enqueue_import
from datasets.stored.columns import ColumnsWriter
from datasets.stored.files import ExamplesWriter
from datasets.stored.import_request import ImportRequest
from finetune_site.common.claims import ClaimLostError
from finetune_site.common.errors import UserError
from jobs.trainer.text.line_forms import LineForm

logger = logging.getLogger(__name__)

MAX_PROBLEMS = 100
IMPORTING = DatasetVersion.Status.IMPORTING
# Databases limit how many values a query may name.
DELETE_AT_ONCE = 500


def import_version(*, version_id: int) -> None:
    """Imports a version, unless its parent is not ready or somebody else imports it.

    What goes wrong is told in the version's row; nothing is raised.
    """
    if _waits_for_parent(version_id):
        return
    claim = Claim.take(version_id)
    if claim is None:
        return
    version = DatasetVersion.objects.select_related("parent").get(pk=version_id)
    try:
        _import_claimed(version, claim)
    except ClaimLostError:
        logger.info("the import of version %s goes on elsewhere", version_id)
    except UserError as error:
        _fail(claim, version, error.message)
    except OSError as error:
        logger.exception("import of version %s", version_id)
        _fail(
            claim,
            version,
            f"The site could not read or write its files ({error.strerror or error}). "
            "Ask an admin whether the disk is full, then upload the file again.",
        )
    except Exception:
        logger.exception("import of version %s", version_id)
        _fail(
            claim,
            version,
            "The import stopped because of a fault in this site; its log has the "
            "details. Nothing else is affected.",
        )
    for child in DatasetVersion.objects.filter(parent=version, status=IMPORTING):
        enqueue_import(child)


def requeue_stale_imports() -> int:
    """Enqueues imports that nobody works on, and returns how many.

    The watcher calls this every few seconds. While tasks wait, the worker is busy or
    down, and more tasks would not help.
    """
    old = timezone.now() - timedelta(seconds=CLAIM_SECONDS)
    stale = list(unclaimed(timezone.now()).filter(created_at__lt=old))
    if not stale or get_broker().queue_size():
        return 0
    for version in stale:
        enqueue_import(version)
    return len(stale)


def _waits_for_parent(version_id: int) -> bool:
    """Returns whether the parent is being imported, which enqueues this one again."""
    child = DatasetVersion.objects.filter(pk=version_id, status=IMPORTING)
    return child.filter(parent__status=IMPORTING).exists()


def _import_claimed(version: DatasetVersion, claim: Claim) -> None:
    request = ImportRequest.read(version.folder)
    # One line of a file may keep the import busy for longer than a claim holds.
    with claim.held(CLAIM_SECONDS / 3):
        facts = _write_files(version, request, claim)
    with transaction.atomic():
        claim.update(status=DatasetVersion.Status.READY, **facts)
        _move_draft(version, request)
    remove_upload(version)


def _write_files(
    version: DatasetVersion, request: ImportRequest, claim: Claim
) -> dict[str, Any]:
    """Writes the version's files. Returns what its row is told about them."""
    tally, num_bad = Tally(), 0
    columns = ColumnsWriter(version.examples_path)
    forms: Counter[LineForm] = Counter()
    problems: list[BadLine] = []
    with ExamplesWriter(version.examples_path) as writer:
        for batch in _batches(version, request):
            groups = alike(batch)
            writer.add(batch.content())
            tally.add(groups)
            columns.add(batch, groups)
            forms += batch.forms
            num_bad += len(batch.bad_lines)
            problems += batch.bad_lines[: MAX_PROBLEMS - len(problems)]
            claim.report(batch.done)
        claim.update(problems=[asdict(p) for p in problems], num_bad=num_bad)
        if not tally.num_examples:
            raise UserError(_nothing_good(problems, num_bad))
        writer.publish()
    num_repeated = columns.publish().num_repeated
    return {
        "bytes_done": version.bytes_total,
        "sha256": writer.sha256,
        "num_bytes": writer.num_bytes,
        "num_examples": tally.num_examples,
        "forms": forms,
        "from_chats": LineForm.CHAT in forms or _has_chats(version.parent),
        "num_bad": num_bad,
        "num_unspaced": tally.num_unspaced,
        "num_repeated": num_repeated,
        "shares": tally.shares(),
    }


def _batches(version: DatasetVersion, request: ImportRequest) -> Iterator[ImportBatch]:
    if request.kind in {"draft", "weights"}:
        parent = _ready_parent(version)
        if request.kind == "weights":
            check_prompts(parent)
        draft = Draft(Change(**change) for change in request.changes)
        return read_changed(parent.examples_path, draft, version.joiner)
    upload = version.upload_path
    if request.kind == "txt":
        return read_text(upload, request.text_split)
    if request.kind == "table":
        mapping = Mapping.from_json(request.mapping)
        table = open_table(upload, request.suffix, has_header=mapping.has_header)
        return read_table(table, mapping)
    return read_jsonl(upload, version.joiner)


def _ready_parent(version: DatasetVersion) -> DatasetVersion:
    if version.parent is None:
        raise UserError("The version this one was made from is gone.")
    if version.parent.status == DatasetVersion.Status.FAILED:
        raise UserError(version.parent.status_message)
    return version.parent


def _has_chats(parent: DatasetVersion | None) -> bool:
    return parent is not None and parent.from_chats


def _move_draft(version: DatasetVersion, request: ImportRequest) -> None:
    """Moves the changes that came after the save was asked for to the new version.

    Its examples have the same numbers.
    """
    if request.kind != "draft":
        return
    changes = DraftChange.objects.filter(version_id=version.parent_id)
    # One by one, since a change of a lower id may have been committed after the draft
    # was read.
    saved = [change["id"] for change in request.changes]
    for first in range(0, len(saved), DELETE_AT_ONCE):
        changes.filter(id__in=saved[first : first + DELETE_AT_ONCE]).delete()
    changes.update(version=version)


def _fail(claim: Claim, version: DatasetVersion, message: str) -> None:
    try:
        claim.update(status=DatasetVersion.Status.FAILED, status_message=message)
    except ClaimLostError:
        logger.info("version %s was taken over before it failed", claim.pk)
        return
    remove_upload(version)


def _nothing_good(problems: list[BadLine], num_bad: int) -> str:
    if not problems:
        return "The file holds no example: there is nothing but white space in it."
    first = problems[0]
    none = f"None of the {num_bad:,} lines" if num_bad > 1 else "The only line"
    could = "could" if num_bad > 1 else "cannot"
    return (
        f"{none} {could} be used. Line {first.line}: "
        f"{first.message}. Mend the file and upload it again."
    )
