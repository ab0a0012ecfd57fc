"""Finds the engines of this site by name, and the one that has a snapshot."""

from finetune_site.common.errors import UserError
from jobs.engines.base import Engine
from jobs.engines.local import LocalEngine
from jobs.engines.remote import RemoteEngine
from jobs.models import EngineSetting, Job, Snapshot

# The engine that is always there, and the default.
LOCAL = LocalEngine()


def get_engine(name: str) -> Engine:
    """Returns the engine of that name. Raises UserError if there is none."""
    if name == LOCAL.name:
        return LOCAL
    setting = None
    if "\0" not in name:
        setting = EngineSetting.objects.filter(name=name).first()
    if setting is None:
        known = ", ".join(engine_titles())
        raise UserError(f"There is no engine {name}; choose {known}.", field="engine")
    return engine_of(setting)


def engine_of(setting: EngineSetting) -> Engine:
    """Returns the engine that a row describes."""
    if setting.kind == EngineSetting.Kind.LOCAL:
        title = f"This machine, queue {setting.name}"
        return LocalEngine(setting.name, title, setting.jobs_at_once)
    return RemoteEngine(setting)


def engine_titles() -> dict[str, str]:
    """Returns the titles of all engines by their names, the default first."""
    rows = EngineSetting.objects.order_by("name")
    return {LOCAL.name: LOCAL.title} | {row.name: engine_of(row).title for row in rows}


def engine_title(name: str) -> str:
    """Returns what people call an engine, also one that was removed."""
    if name == LOCAL.name:
        return LOCAL.title
    return engine_titles().get(name, f"{name} (removed)")


def remote_names() -> list[str]:
    """Returns the names of the engines that are servers elsewhere."""
    rows = EngineSetting.objects.filter(kind=EngineSetting.Kind.REMOTE)
    return list(rows.values_list("name", flat=True))


def engine_that_has(snapshot: Snapshot) -> Engine:
    """Returns the engine that holds a snapshot, and so answers with it.

    A snapshot of this machine stays here, even if the queue that trained it was removed
    or another engine has its name now. Raises UserError if its engine was removed.
    """
    if snapshot.is_here:
        return LOCAL
    name = snapshot.job.engine
    rows = EngineSetting.objects.filter(name=name, kind=EngineSetting.Kind.REMOTE)
    if (setting := rows.first()) is not None:
        return engine_of(setting)
    raise UserError(
        f"The snapshot lies on the engine {name}, which was removed from this site. An "
        "admin can add it again under the same name."
    )


def engine_to_go_on(parent: Snapshot) -> str:
    """Returns the name of the engine for a job that trains a snapshot further.

    It is the engine of the parent's job, or `local` if that was a queue of this machine
    that is gone.
    """
    name = parent.job.engine
    if not parent.is_here:
        return name
    queues = EngineSetting.objects.filter(name=name, kind=EngineSetting.Kind.LOCAL)
    return name if queues.exists() else LOCAL.name


def check_same_place(job: Job) -> None:
    """Raises UserError if the job's engine cannot reach the snapshot to go on from."""
    parent = job.parent_snapshot
    if parent is None:
        return
    home, engine = engine_that_has(parent), get_engine(job.engine)
    both_here = not home.is_remote and not engine.is_remote
    if both_here or home.name == engine.name:
        return
    raise UserError(
        f"This snapshot lies on the engine {home.name}, so only {home.name} can train "
        "it further. Choose that engine, or another snapshot.",
        field="engine",
    )
