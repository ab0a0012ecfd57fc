"""What clients of the API do with versions, which they know as files."""

import secrets
import shutil
from pathlib import Path

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import ProtectedError
from django.utils import timezone

from datasets.models import Dataset, DatasetVersion
from datasets.services.uploads import MAX_NAME_CHARACTERS, import_dataset_file
from finetune_site.common.errors import UserError
from finetune_site.team.models import Member
from finetune_site.team.services import record

# What clients call a file whose name they do not know.
NAMELESS = {"", "blob", "file", "upload"}


def take_api_file(*, member: Member, upload: UploadedFile) -> DatasetVersion:
    """Makes a dataset of the file's name, or the next version of the one there is.

    A file whose name has no ending is read as examples, one a line.
    """
    name = upload.name or ""
    return import_dataset_file(
        member=member,
        name=dataset_name(name),
        upload=upload,
        or_next_version=True,
        kind="" if Path(name).suffix else "jsonl",
    )


def dataset_name(file_name: str) -> str:
    """Returns the name of the dataset that a file of that name belongs to."""
    name = " ".join(Path(file_name).stem.split())[:MAX_NAME_CHARACTERS].strip()
    if name.lower() not in NAMELESS:
        return name
    # Each is a dataset of its own, since they have nothing in common.
    return f"Upload of {timezone.localtime():%d %b %Y, %H:%M}, {secrets.token_hex(3)}"


def delete_api_file(*, member: Member, version: DatasetVersion) -> None:
    """Deletes a version, or hides it from clients if a job was trained on it.

    Raises UserError if another version is being made from it.
    """
    _check_no_child(version)
    folder, subject = version.folder, str(version)
    with transaction.atomic():
        record(member=member, action="file.delete", subject=subject, file=version.uid)
        if not _delete(version):
            DatasetVersion.objects.filter(pk=version.pk).update(file_deleted=True)
            return
    # The rows go first, since a folder without a row harms nobody.
    shutil.rmtree(folder, ignore_errors=True)


def _delete(version: DatasetVersion) -> bool:
    """Deletes a version, and its dataset if it was the only one.

    Returns False if a job uses the version.
    """
    dataset = Dataset.objects.select_for_update().get(pk=version.dataset_id)
    try:
        with transaction.atomic():
            version.delete()
    except ProtectedError:
        return False
    if not dataset.versions.exists():
        dataset.delete()
    return True


def _check_no_child(version: DatasetVersion) -> None:
    importing = DatasetVersion.Status.IMPORTING
    child = DatasetVersion.objects.filter(parent=version, status=importing).first()
    if child:
        raise UserError(
            f"Version {child.number} is being made from this file at the moment. Wait "
            "until it is ready, then delete the file.",
            field="file_id",
        )
