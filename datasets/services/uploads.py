"""Takes a file that somebody uploaded and has it imported as a version."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile
from django.db import IntegrityError, transaction
from django.urls import reverse

from datasets.models import Dataset, DatasetVersion
from datasets.reading.kinds import NOTE, holds_json_lines
from datasets.reading.lines import check_kind
from datasets.reading.plain_text import TextSplit
from datasets.services.tables import table_request
from datasets.services.versions import add_version
from datasets.stored.import_request import ImportRequest
from finetune_site.common.errors import UserError
from finetune_site.common.wording import num_bytes
from finetune_site.team.models import Member
from finetune_site.team.services import record
from jobs.trainer.contract.runfolder import sync_path

TABLES = (".csv", ".tsv", ".xlsx")
KINDS = {".jsonl": "jsonl", ".txt": "txt", **dict.fromkeys(TABLES, "table")}
UPLOAD_NAME = "upload.bin"
MAX_NAME_CHARACTERS = 120
LEFT_AFTER_SECONDS = 24 * 60 * 60


def import_dataset_file(
    *,
    member: Member | None,
    name: str,
    upload: UploadedFile | Path | str,
    dataset: Dataset | None = None,
    or_next_version: bool = False,
    kind: str = "",
    text_split: str = TextSplit.PARAGRAPHS,
    joiner: str = "",
    note: str = "",
    can_choose: bool = False,
) -> DatasetVersion:
    """Makes a dataset, or the next version of `dataset`, from a file of examples.

    With `or_next_version` a dataset that has the name already gets the next version.
    `kind` tells what a file is whose name does not. The version is `importing` when
    this returns; with `can_choose` a table waits until its columns are chosen. Raises
    UserError, which names the field at fault.
    """
    source = upload.name if isinstance(upload, UploadedFile) else str(upload)
    source_name = Path(source or "").name
    kind = kind or _kind_of(source_name)
    _check_size(upload, source_name)
    if dataset is None:
        name = _clean_name(name) if or_next_version else check_name(name)
    _check_choices(text_split, joiner)
    version = DatasetVersion(
        source_name=source_name, joiner=joiner, note=note.strip()[:200]
    )
    version.created_by = member
    try:
        _take_in(upload, version.upload_path)
        request = ImportRequest(kind=kind, text_split=text_split)
        if kind == "table":
            suffix = Path(source_name).suffix.lower()
            request = table_request(version, suffix, may_wait=can_choose)
        else:
            check_kind(version.upload_path)
        if kind == "txt" and holds_json_lines(version.upload_path):
            request = replace(request, kind="jsonl")
            version.note = version.note or NOTE
        version.bytes_total = version.upload_path.stat().st_size
        request.write(version.folder)
        with transaction.atomic():
            dataset = dataset or _create(member, name, or_next_version)
            return _add(member, dataset, version)
    except BaseException:
        shutil.rmtree(version.folder, ignore_errors=True)
        raise


def remove_upload(version: DatasetVersion) -> None:
    """Removes an upload whose import is over, whatever came of it."""
    version.upload_path.unlink(missing_ok=True)


def remove_left_uploads() -> int:
    """Removes uploads that killed processes left. Returns how many."""
    latest = time.time() - LEFT_AFTER_SECONDS
    waiting = (DatasetVersion.Status.IMPORTING, DatasetVersion.Status.COLUMNS)
    needed = set(
        DatasetVersion.objects.filter(status__in=waiting).values_list("uid", flat=True)
    )
    uploads = Path(settings.DATA_DIR, "datasets").glob(f"*/{UPLOAD_NAME}")
    left = [
        path
        for path in uploads
        if path.parent.name not in needed and _changed_at(path) < latest
    ]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def _changed_at(path: Path) -> float:
    """Returns the time of a file's last change, which is now if it has just gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def check_name(name: str, besides: Dataset | None = None) -> str:
    """Returns the name as it is kept.

    Raises UserError if it is too long, empty, or the name of a dataset other than
    `besides`.
    """
    name = _clean_name(name)
    found = _of_name(name)
    if found and found != besides:
        raise name_taken(name)
    return name


def name_taken(name: str) -> UserError:
    """Returns the error for a name that another dataset has."""
    found = _of_name(name)
    return UserError(
        f"There is a dataset named {name} already. Choose another name, or open that "
        "one and upload the file as its next version.",
        field="name",
        link=reverse("dataset", args=[found.pk]) if found else "",
    )


def _clean_name(name: str) -> str:
    name = " ".join(name.split())
    if not name:
        raise UserError("Give the dataset a name.", field="name")
    if len(name) > MAX_NAME_CHARACTERS:
        raise UserError(
            f"The name has {len(name)} characters; {MAX_NAME_CHARACTERS} fit. Shorten "
            "it.",
            field="name",
        )
    return name


def _of_name(name: str) -> Dataset | None:
    return Dataset.objects.filter(name__iexact=name).first()


def _create(member: Member | None, name: str, or_find: bool) -> Dataset:
    """Creates a dataset, or with `or_find` returns the one that has the name."""
    found = _of_name(name) if or_find else None
    if found:
        return found
    try:
        with transaction.atomic():
            return Dataset.objects.create(name=name, created_by=member)
    except IntegrityError:
        # Somebody else was quicker.
        found = _of_name(name) if or_find else None
        if found is None:
            raise name_taken(name) from None
        return found


def _add(
    member: Member | None, dataset: Dataset, version: DatasetVersion
) -> DatasetVersion:
    add_version(dataset=dataset, version=version)
    record(
        member=member,
        action="dataset.upload",
        subject=str(dataset),
        version=version.number,
        file=version.source_name,
    )
    return version


def _kind_of(source_name: str) -> str:
    kind = KINDS.get(Path(source_name).suffix.lower())
    if kind is None:
        raise UserError(
            f"{source_name or 'The file'} is none of .jsonl, .txt, .csv, .tsv and "
            ".xlsx. Save the examples as one of these.",
            field="file",
        )
    return kind


def _check_size(upload: UploadedFile | Path | str, source_name: str) -> None:
    size = upload.size if isinstance(upload, UploadedFile) else os.stat(upload).st_size
    if not size:
        raise UserError(
            f"{source_name} is empty. Choose a file with examples in it.", field="file"
        )
    if size > settings.MAX_UPLOAD_BYTES:
        raise UserError(
            f"{source_name} has {num_bytes(size)}, and this site takes "
            f"{num_bytes(settings.MAX_UPLOAD_BYTES)} at most. Split it into several "
            "files.",
            field="file",
        )


def _check_choices(text_split: str, joiner: str) -> None:
    if text_split not in list(TextSplit):
        raise UserError("Choose how the text is cut.", field="text_split")
    if joiner not in DatasetVersion.Joiner.values:
        raise UserError("Choose how segments are joined.", field="joiner")


def _take_in(upload: UploadedFile | Path | str, target: Path) -> None:
    """Puts the upload into a new folder, where it is on disk when this returns.

    An uploaded temporary file is moved; anything else is copied.
    """
    folder = target.parent
    folder.mkdir(parents=True, mode=0o700)
    if isinstance(upload, TemporaryUploadedFile):
        shutil.move(upload.temporary_file_path(), target)
    elif isinstance(upload, UploadedFile):
        with target.open("wb") as file:
            for chunk in upload.chunks():
                file.write(chunk)
    else:
        shutil.copyfile(upload, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    sync_path(folder)
    sync_path(folder.parent)
