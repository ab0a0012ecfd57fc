"""The background half of a download: from a row to a model that is ready.

A task works for some seconds and hands on to the next one, so that a large model never
keeps a worker from its other tasks. A task may be killed anywhere: the next one goes on
from the bytes that are there.
"""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.tasks import async_task

from datasets.services.versions import TASK_SECONDS
from finetune_site.common.claims import ClaimLostError
from finetune_site.common.errors import UserError
from jobs.base_models.download import Download
from jobs.base_models.hub import Hub, HubFile, HubModel, HubUnreachableError
from jobs.base_models.model_folder import fault_of
from jobs.models import ModelDownload
from jobs.selectors.base_models import models_dir
from jobs.services.download_claims import (
    Claim,
    is_claimed,
    wanted_downloads,
)

logger = logging.getLogger(__name__)

# This is short enough that a single worker shows signs of life in between.
SLICE_SECONDS = 15.0
# The worker gets this long to take a download before it is asked again.
ENQUEUED_SECONDS = 10
# It begins with a full stop, so it is taken for no model.
DRAFTS = ".downloads"

Status = ModelDownload.Status


class SliceOverError(Exception):
    """The time of this task is over, and the next one goes on."""


def download_next() -> bool:
    """Works on the download that waits longest. Returns whether more is to be done."""
    claim = Claim.take_next()
    if claim is None:
        return False
    remove_left_drafts()
    if download := ModelDownload.objects.filter(pk=claim.pk).first():
        _download_or_fail(download, claim)
    return wanted_downloads().exists()


def enqueue_download() -> None:
    """Has the worker go on with the downloads."""
    async_task("jobs.tasks.download_model", timeout=TASK_SECONDS, save=False)


def requeue_stale_downloads() -> bool:
    """Asks for a worker if nobody works on a download. Returns whether it did.

    The watcher calls this every few seconds.
    """
    now = timezone.now()
    wanted = list(wanted_downloads())
    if not wanted or any(is_claimed(download, now) for download in wanted):
        return False
    if now - wanted[0].asked_at < timedelta(seconds=ENQUEUED_SECONDS):
        return False
    if get_broker().queue_size():
        return False
    enqueue_download()
    return True


def open_hub() -> Hub:
    """Returns the hub. Raises UserError if downloads are switched off."""
    if not settings.HUB_ENDPOINT:
        raise UserError(
            "Downloads are switched off on this site (FINETUNE_HUB_ENDPOINT is empty)."
        )
    return Hub(settings.HUB_ENDPOINT, settings.HUB_TOKEN)


def advised(error: UserError, name: str) -> str:
    """Returns the message of an error.

    If there is no way to the hub, the message names the other way to a model.
    """
    if isinstance(error, HubUnreachableError):
        return f"{error.message} Or copy the model's folder to DATA_DIR/models/{name}."
    return error.message


def draft_folder(name: str) -> Path:
    """Returns the folder in which a model's files arrive until all are checked."""
    return models_dir() / DRAFTS / name


def remove_left_drafts() -> None:
    """Removes drafts whose rows are gone, since their remover was killed."""
    known = set(ModelDownload.objects.values_list("name", flat=True))
    for draft in (models_dir() / DRAFTS).glob("*"):
        if draft.name not in known:
            shutil.rmtree(draft, ignore_errors=True)


def pinned_fields(model: HubModel) -> dict[str, object]:
    """Returns what a row keeps of a model, so that a resume fetches the same files."""
    return {
        "licence": model.licence,
        "revision": model.revision,
        "files": [asdict(file) for file in model.files],
        "bytes_total": model.num_bytes,
    }


def _download_or_fail(download: ModelDownload, claim: Claim) -> None:
    try:
        _download_claimed(download, claim)
    except ClaimLostError:
        logger.info("the download of %s was cancelled or taken over", download)
    except SliceOverError:
        _hand_on(claim)
    except UserError as error:
        _fail(claim, advised(error, download.name))
    except OSError as error:
        logger.exception("download of %s", download)
        _fail(
            claim,
            f"The site could not write its files ({error.strerror or error}). Make "
            "room on the disk of the data folder, then resume.",
        )
    except Exception as error:
        logger.exception("download of %s", download)
        _fail(
            claim,
            f"The download stopped because of a fault in this site "
            f"({type(error).__name__}); its log has the details.",
        )


def _download_claimed(download: ModelDownload, claim: Claim) -> None:
    hub, target = open_hub(), models_dir() / download.name
    if not download.revision:
        claim.update(message="Asking the hub what there is")
        claim.update(**pinned_fields(hub.look_up(download.hub_id)))
        download.refresh_from_db()
    draft = draft_folder(download.name)
    # If there is no draft but a folder, the files are in place, and a task was killed
    # before the row said so.
    if draft.is_dir() or not target.is_dir():
        Download(hub, _pinned(download), draft, _ticker(claim)).run()
        _check_draft(draft, target)
    elif fault := fault_of(target):
        raise UserError(fault)
    # The row is locked until the folder is in place, so a cancel comes before or after.
    with transaction.atomic():
        claim.update(
            status=Status.READY,
            bytes_done=download.bytes_total,
            bytes_per_second=None,
            message="",
            claimed_at=None,
        )
        if draft.is_dir():
            draft.rename(target)


def _ticker(claim: Claim) -> Callable[[int, str], None]:
    end = time.monotonic() + SLICE_SECONDS

    def tick(bytes_done: int, checking: str) -> None:
        claim.report(bytes_done, checking and f"Checking {checking}")
        if not checking and time.monotonic() > end:
            raise SliceOverError

    return tick


def _pinned(download: ModelDownload) -> HubModel:
    files = tuple(HubFile(**file) for file in download.files)
    return HubModel(download.hub_id, download.revision, download.licence, files)


def _check_draft(draft: Path, target: Path) -> None:
    """Raises UserError if the draft cannot be used, or cannot get its name."""
    if fault := fault_of(draft):
        raise UserError(fault)
    if target.exists():
        raise UserError(
            f"There is a folder DATA_DIR/models/{target.name} already. Remove it or "
            "rename it, then resume."
        )


def _hand_on(claim: Claim) -> None:
    try:
        claim.update(claimed_at=None)
    except ClaimLostError:
        logger.info("download %s was cancelled or taken over", claim.pk)


def _fail(claim: Claim, message: str) -> None:
    try:
        claim.update(
            status=Status.FAILED,
            message=message,
            bytes_per_second=None,
            claimed_at=None,
        )
    except ClaimLostError:
        logger.info("download %s was taken over before it failed", claim.pk)
