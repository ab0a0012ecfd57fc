"""Reads what the page of base models shows."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import F

from jobs.base_models.catalogue import BaseModel, ships_inside
from jobs.base_models.model_folder import NOT_STATED
from jobs.base_models.registry import broken_folders
from jobs.models import ModelDownload
from jobs.selectors.base_models import base_models, models_dir

Status = ModelDownload.Status


@dataclass(frozen=True)
class ListedModel:
    """A line of the list: a model that is known, asked for, or in a broken folder.

    `state` is ready, trying, missing, downloading, waiting, cancelled, failed or
    broken.
    """

    name: str
    state: str
    model: BaseModel | None = None
    download: ModelDownload | None = None
    # What is wrong with its folder.
    fault: str = ""
    # Whether there are files that can be removed: those that ship stay.
    removable: bool = False

    @property
    def hub_id(self) -> str:
        """The model's id on the hub; empty if it is not from there."""
        return (self.download or self.model or _NOTHING).hub_id

    @property
    def hub_page(self) -> str:
        """The address of the model's page; empty if it has none."""
        known = self.hub_id and settings.HUB_ENDPOINT
        return f"{settings.HUB_ENDPOINT}/{self.hub_id}" if known else ""

    @property
    def licence(self) -> str:
        """The licence, as far as it is known."""
        known = [source.licence for source in (self.model, self.download) if source]
        return next((one for one in known if one and one != NOT_STATED), NOT_STATED)

    @property
    def num_bytes(self) -> int:
        """How many bytes are downloaded; 0 if that is not known."""
        if self.download and self.download.bytes_total:
            return self.download.bytes_total
        return self.model.download_bytes if self.model else 0

    @property
    def can_start(self) -> bool:
        """Whether a download can begin or go on."""
        return self.state in {"missing", "cancelled", "failed"} and bool(self.hub_id)


_NOTHING = ModelDownload()


def read_models() -> dict[str, Any]:
    """Returns the list of base models.

    `busy` tells whether something is on its way, so that the page asks often.
    """
    rows = {download.name: download for download in ModelDownload.objects.all()}
    broken = {folder.name: folder.fault for folder in broken_folders(models_dir())}
    models = {model.name: model for model in base_models()}
    names = [*models, *(name for name in (*rows, *broken) if name not in models)]
    active = _active()
    listed = [
        _listed(name, models.get(name), rows.get(name), broken.get(name, ""), active)
        for name in dict.fromkeys(names)
    ]
    return {
        "models": listed,
        "busy": active is not None or any(one.state == "trying" for one in listed),
        "hub_on": bool(settings.HUB_ENDPOINT),
        "models_dir": models_dir(),
    }


def _listed(
    name: str,
    model: BaseModel | None,
    download: ModelDownload | None,
    fault: str,
    active: ModelDownload | None,
) -> ListedModel:
    in_data_folder = (models_dir() / name).is_dir()
    ready = bool(model and model.is_ready(models_dir()))
    on_trial = bool(model and model.is_on_trial(models_dir()))
    return ListedModel(
        name=name,
        state="trying" if on_trial else _state(ready, download, fault, active),
        model=model,
        download=download,
        fault=fault,
        removable=not ships_inside(name) and (in_data_folder or download is not None),
    )


def _state(
    ready: bool,
    download: ModelDownload | None,
    fault: str,
    active: ModelDownload | None,
) -> str:
    """Returns the state of a model.

    Its files say whether it is ready, and its row says what is being done for it.
    """
    if ready:
        return "ready"
    if fault:
        return "broken"
    if download is None or download.status in (Status.ADDED, Status.READY):
        return "missing"
    if download.status == Status.DOWNLOADING and download != active:
        return "waiting"
    return download.status


def _active() -> ModelDownload | None:
    """Returns the download that is being worked on, or else the next one."""
    wanted = ModelDownload.objects.filter(status=Status.DOWNLOADING)
    newest_claim = F("claimed_at").desc(nulls_last=True)
    return wanted.order_by(newest_claim, "asked_at", "pk").first()
