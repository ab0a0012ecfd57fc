"""Reads what the page of engines shows."""

from dataclasses import dataclass
from typing import Any

from jobs.engines.registry import LOCAL, engine_of
from jobs.models import EngineSetting, Job
from jobs.pages.machine import read_machine
from jobs.services.engines import loss_by_removal


@dataclass(frozen=True)
class EngineRow:
    """An engine, and what it does at the moment."""

    name: str
    title: str
    jobs_at_once: int
    running: list[Job]
    num_queued: int
    # The built-in engine has none.
    setting: EngineSetting | None = None
    # What removing it would cost, in words.
    loss: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether the engine is another server."""
        return bool(self.setting and self.setting.kind == EngineSetting.Kind.REMOTE)


def read_engines() -> dict[str, Any]:
    """Returns the machine, its built-in engine, and the engines that admins added."""
    local = _row(LOCAL.name, LOCAL.title, LOCAL.jobs_at_once)
    settings = EngineSetting.objects.select_related("created_by")
    others = [_other(setting) for setting in settings]
    return {"machine": read_machine(), "local": local, "others": others}


def _other(setting: EngineSetting) -> EngineRow:
    engine = engine_of(setting)
    loss = loss_by_removal(setting.name) if engine.is_remote else ""
    return _row(
        setting.name, engine.title, engine.jobs_at_once, setting=setting, loss=loss
    )


def _row(name: str, title: str, jobs_at_once: int, **more: Any) -> EngineRow:
    jobs = Job.objects.filter(engine=name)
    waiting = [Job.Status.QUEUED, Job.Status.STARTING]
    return EngineRow(
        name=name,
        title=title,
        jobs_at_once=jobs_at_once,
        running=list(jobs.filter(status=Job.Status.RUNNING)),
        num_queued=jobs.filter(status__in=waiting).count(),
        **more,
    )
