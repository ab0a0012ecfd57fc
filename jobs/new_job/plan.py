"""The plan of a job that does not exist yet, for its form."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from datasets.models import DatasetVersion
from finetune_site.common import wording
from finetune_site.common.errors import UserError
from jobs.engines.registry import LOCAL, engine_title, remote_names
from jobs.models import Job
from jobs.new_job.creation import check_dataset, check_model
from jobs.new_job.preparation import NUM_DEFAULT_PROMPTS
from jobs.new_job.suggest import choose_settings
from jobs.selectors.base_models import (
    find_base_model,
    get_base_model,
    models_dir,
)
from jobs.services.specs import build_spec
from jobs.trainer.contract.architecture import needs_own_rows
from jobs.trainer.contract.settings import SETTINGS
from jobs.trainer.rows.packing import Packing
from jobs.trainer.rows.plan import make_plan, rows_of
from jobs.trainer.rows.token_cache import cache_folder, open_token_cache

# The settings that a plan needs.
NEEDED = [name for name, one in SETTINGS.items() if one.shapes_plan]
FEW_STEPS = 5


@dataclass(frozen=True)
class PlanView:
    """What the form shows of a plan.

    `state` is ready, counting (there is no plan yet), incomplete (a value is missing)
    or refused (the job would not be started, and `obstacle` says why).
    """

    state: str
    obstacle: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    # Where it would run: its title, and the jobs ahead of it there.
    engine: str = ""
    num_ahead: int = 0
    # Of this machine; 0 for an engine elsewhere.
    memory_total: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def shares(self) -> list[tuple[str, float]]:
        learned = self.plan["learned_tokens"]
        return [("Learned", learned), ("Only read", self.plan["tokens"] - learned)]


def read_plan(values: dict[str, Any]) -> PlanView:
    """Returns the plan for a form's valid values, which are given by field name."""
    version, base_model = values.get("dataset_version"), values.get("base_model")
    model = find_base_model(str(base_model))
    known = all(values.get(name) is not None for name in NEEDED)
    if not version or not known or not model or not model.is_ready(models_dir()):
        return PlanView("incomplete", values=values)
    job = Job(
        dataset_version=version,
        base_model=model.name,
        parent_snapshot=values.get("parent_snapshot"),
        prompts=values.get("prompts") or [""] * NUM_DEFAULT_PROMPTS,
        **{name: values[name] for name in NEEDED},
    )
    try:
        check_model(job)
        check_dataset(version, "dataset_version", may_import=False)
        validation = values.get("validation_version")
        if isinstance(validation, DatasetVersion):
            check_dataset(validation, "validation_version", may_import=False)
    except UserError as error:
        return PlanView("refused", error.message, values=values)
    plan = plan_job(job)
    if plan is None:
        return PlanView("counting", values=values)
    engine = values.get("engine") or LOCAL.name
    waiting = Job.objects.filter(status__in=[Job.Status.QUEUED, *Job.LIVE])
    memory = 0 if engine in remote_names() else psutil.virtual_memory().total
    return PlanView(
        "ready",
        plan=plan,
        values=values,
        engine=engine_title(engine),
        num_ahead=waiting.filter(engine=engine).count(),
        memory_total=memory,
        warnings=list(_warnings(plan, memory)),
    )


def plan_job(job: Job) -> dict[str, Any] | None:
    """Returns the plan of a job, which need not be saved; None: no tokens are counted.

    Settings that are left to the site are chosen here too, and kept in the job.
    """
    model = get_base_model(job.base_model)
    folder = cache_folder(job.dataset_version.folder, model.folder(models_dir()))
    tokens = open_token_cache(folder)
    if tokens is None:
        return None
    choose_settings(job)
    spec = build_spec(job)
    packing = _pack(
        folder,
        spec.max_tokens,
        spec.seed,
        alone=needs_own_rows(Path(spec.model.path)),
    )
    return make_plan(spec, cache=tokens, packing=packing)


@lru_cache(maxsize=4)
def _pack(folder: Path, max_tokens: int, seed: int, *, alone: bool) -> Packing:
    """Returns the rows. Packing many takes a second, so the last few are remembered."""
    tokens = open_token_cache(folder)
    assert tokens is not None  # noqa: S101  the caller has just opened it
    return rows_of(tokens, max_tokens, seed, alone=alone)


def _warnings(plan: dict[str, Any], memory_total: int) -> Iterator[str]:
    if memory_total and plan["memory_bytes"] > memory_total:
        yield (
            "This machine has too little memory for it. Take fewer max tokens, LoRA or "
            "a smaller base model."
        )
    if plan["unlearned_examples"]:
        yield (
            f"{plan['unlearned_examples']:,} of {plan['examples']:,} examples have "
            "nothing to learn: all their loss weights are 0."
        )
    if plan["pieces_cut"]:
        longer = wording.counted(plan["pieces_cut"], "example is", "examples are")
        yield f"{longer} longer than max tokens, and cut into pieces."
    if (steps := plan["steps_per_epoch"]) < FEW_STEPS:
        few = "1 step an epoch is" if steps == 1 else f"{steps} steps an epoch are"
        yield f"{few} little. Lower max tokens or batch size, or take more epochs."
