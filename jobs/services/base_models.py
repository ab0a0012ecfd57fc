"""What admins do with base models: add, download, cancel, remove."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from finetune_site.common.errors import UserError
from finetune_site.common.ids import random_id
from finetune_site.team.models import Member
from finetune_site.team.services import record
from jobs.base_models.catalogue import CATALOGUE, ships_inside
from jobs.base_models.hub import HUB_ID
from jobs.base_models.registry import folder_names, is_usable_name
from jobs.models import Job, ModelDownload, Snapshot
from jobs.selectors.base_models import find_base_model, models_dir
from jobs.selectors.sources import model_source
from jobs.services.downloads import (
    advised,
    draft_folder,
    enqueue_download,
    open_hub,
    pinned_fields,
)
from jobs.trainer.contract.settings import LORA

Status = ModelDownload.Status


def add_model(*, member: Member | None, hub_id: str, name: str = "") -> ModelDownload:
    """Looks a model up at the hub, so that its licence is known before it is fetched.

    Raises UserError, which names the field at fault.
    """
    hub_id = clean_hub_id(hub_id)
    name = name.strip() or hub_id.rpartition("/")[2]
    check_name(name)
    try:
        model = open_hub().look_up(hub_id)
    except UserError as error:
        raise UserError(advised(error, name), field="hub_id") from None
    download = ModelDownload(
        name=name,
        hub_id=hub_id,
        asked_by=member,
        asked_at=timezone.now(),
        **pinned_fields(model),
    )
    try:
        with transaction.atomic():
            download.save()
            record(member=member, action="model.add", subject=name, hub_id=hub_id)
    except IntegrityError:
        raise name_taken(name) from None
    return download


def start_download(*, member: Member | None, name: str) -> ModelDownload:
    """Fetches a model, or goes on with a download that was cancelled or failed.

    Raises UserError if the model is here or is being downloaded already.
    """
    open_hub()
    check_absent(name)
    with transaction.atomic():
        download = row_of(name)
        waiting = ModelDownload.objects.filter(pk=download.pk)
        if not waiting.exclude(status=Status.DOWNLOADING).update(
            status=Status.DOWNLOADING,
            message="",
            asked_by=member,
            asked_at=timezone.now(),
            claimed_at=None,
        ):
            raise UserError(f"{name} is being downloaded already.")
        record(
            member=member, action="model.download", subject=name, hub_id=download.hub_id
        )
        # Errors are swallowed (robust), since the row says what is wanted and the
        # watcher enqueues it again.
        transaction.on_commit(enqueue_download, robust=True)
    download.refresh_from_db()
    return download


def cancel_download(*, member: Member | None, name: str) -> None:
    """Stops a download. The bytes that have come are kept, so that it can go on.

    Raises UserError if the model is not being downloaded.
    """
    with transaction.atomic():
        loading = ModelDownload.objects.filter(name=name, status=Status.DOWNLOADING)
        if not loading.update(
            status=Status.CANCELLED,
            message="",
            claimed_at=None,
            bytes_per_second=None,
        ):
            raise UserError(f"{name} is not being downloaded.")
        record(member=member, action="model.cancel", subject=name)


def remove_model(*, member: Member | None, name: str) -> None:
    """Removes a model's files, or what has come of them.

    Raises UserError if it ships with the site, is being downloaded, or is needed.
    """
    if ships_inside(name):
        raise UserError(f"{name} ships inside and stays.")
    # The names of folders are compared, so that no name can lead out of their folder.
    has_folder = name in folder_names(models_dir())
    check_unneeded(name)
    with transaction.atomic():
        rows = ModelDownload.objects.select_for_update().filter(name=name)
        if rows.filter(status=Status.DOWNLOADING).exists():
            raise UserError(f"{name} is being downloaded. Cancel that first.")
        num_deleted, _ = rows.delete()
        if not num_deleted and not has_folder:
            raise UserError(f"There is no base model {name} to remove.")
        record(member=member, action="model.remove", subject=name)
    # The folder goes after the row, since a folder without a row is still a model.
    if num_deleted:
        shutil.rmtree(draft_folder(name), ignore_errors=True)
    if has_folder:
        remove_folder(models_dir() / name)


def remove_folder(folder: Path) -> None:
    """Removes a model's folder. Only a link is removed if the folder is one."""
    if folder.is_symlink():
        folder.unlink()
        return
    # It is moved out of the way at once, since half a folder is no model. If this is
    # killed, the next download clears it from the drafts.
    leaving = draft_folder(random_id("removed"))
    leaving.parent.mkdir(mode=0o700, exist_ok=True)
    folder.rename(leaving)
    shutil.rmtree(leaving, ignore_errors=True)


def clean_hub_id(text: str) -> str:
    """Returns an id such as `Qwen/Qwen3-0.6B-Base`, also from its page's address.

    Raises UserError if it is no id, or that of a model in the catalogue.
    """
    text = text.strip().rstrip("/")
    if text.startswith("https://"):
        text = urlsplit(text).path.strip("/")
    if not HUB_ID.fullmatch(text) or ".." in text:
        raise UserError(
            "An id on the hub is written owner/model, for example "
            "Qwen/Qwen3-0.6B-Base. Copy it from the model's page.",
            field="hub_id",
        )
    known = next((one for one in CATALOGUE.values() if one.hub_id == text), None)
    if known:
        raise UserError(
            f"{text} is in the list already: it is {known.name}.", field="hub_id"
        )
    return text


def check_name(name: str) -> None:
    """Raises UserError if a model cannot have the name."""
    if not is_usable_name(name):
        raise UserError(
            f"{name[:80]} cannot be a model's name. Write up to 80 letters, digits, "
            "full stops, hyphens and underscores.",
            field="name",
        )
    taken = ModelDownload.objects.filter(name__iexact=name).exists()
    if taken or name.lower() in CATALOGUE or (models_dir() / name).exists():
        raise name_taken(name)


def name_taken(name: str) -> UserError:
    """Returns the error for a name that another model has, perhaps in other letters."""
    rows = ModelDownload.objects.values_list("name", flat=True)
    names = [*CATALOGUE, *rows, *folder_names(models_dir())]
    found = next((one for one in names if one.lower() == name.lower()), name)
    return UserError(
        f"There is a base model named {name} already. Give this one another name.",
        field="name",
        link=f"{reverse('models')}#model-{found}",
    )


def check_absent(name: str) -> None:
    """Raises UserError if a folder of that name is there, usable or not."""
    if not (models_dir() / name).is_dir():
        return
    model = find_base_model(name)
    if model and model.is_ready(models_dir()):
        raise UserError(f"{name} is ready already.")
    raise UserError(
        f"There is a folder DATA_DIR/models/{name} that cannot be used. Remove it "
        "first, then download the model."
    )


def check_unneeded(name: str) -> None:
    """Raises UserError if a job that has not ended, or an adapter, needs the model."""
    jobs = Job.objects.filter(base_model=name)
    if job := jobs.exclude(status__in=Job.FINAL).first():
        raise UserError(
            f"{name} stays: the job {job} needs it. Wait until it has ended, or stop "
            "it."
        )
    adapters = Snapshot.objects.filter(base_model=name, method=LORA)
    folder = str(models_dir() / name)
    for snapshot in adapters.select_related("job__parent_snapshot__job"):
        if model_source(name, snapshot).path == folder:
            raise UserError(
                f"{name} stays: snapshots of the job {snapshot.job} are additions to "
                "it (LoRA) and answer with it. Delete that job first."
            )


def row_of(name: str) -> ModelDownload:
    """Returns the row of a model, which is created now for one of the catalogue.

    Raises UserError if there is no such model.
    """
    if name in CATALOGUE and CATALOGUE[name].hub_id:
        model = CATALOGUE[name]
        download, _ = ModelDownload.objects.get_or_create(
            name=name,
            defaults={
                "hub_id": model.hub_id,
                "licence": model.licence,
                "bytes_total": model.download_bytes,
                "asked_at": timezone.now(),
            },
        )
        return download
    download_or_none = ModelDownload.objects.filter(name=name).first()
    if download_or_none is None:
        raise UserError(f"There is no base model {name} to download. Add it first.")
    return download_or_none
