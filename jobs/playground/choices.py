"""Lists what can be asked in the playground: snapshots and base models."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.http import Http404, QueryDict
from django.urls import reverse
from django.utils.http import urlencode

from finetune_site.common.wording import count, loss
from jobs.models import Job, Snapshot
from jobs.selectors.base_models import base_models, find_base_model, models_dir

MAX_COLUMNS = 4
MAX_OFFERED_SNAPSHOTS = 200
# Nobody reads a suggestion that is longer.
MAX_SUGGESTION_CHARACTERS = 500


@dataclass(frozen=True)
class Choice:
    """A snapshot or a base model, as it stands in the list."""

    # The snapshot's uid or the base model's name.
    value: str
    title: str
    # One line about it, and the page that says more.
    about: str
    url: str
    # The first prompt that its job watched, as a suggestion.
    prompt: str = ""


@dataclass(frozen=True)
class ChoiceGroup:
    """Choices under one title."""

    title: str
    choices: list[Choice]


def of_base_model(name: str) -> Choice:
    """Returns a base model as a choice."""
    return Choice(name, name, "Base model, before any training", reverse("models"))


def of_snapshot(snapshot: Snapshot) -> Choice:
    """Returns a snapshot as a choice."""
    job = snapshot.job
    step, measured = f"Step {count(snapshot.step)}", ""
    if snapshot.validation_loss is not None:
        measured = f"validation loss {loss(snapshot.validation_loss)}"
    elif snapshot.learned_loss is not None:
        measured = f"learned loss {loss(snapshot.learned_loss)}"
    best = "best" if snapshot.best else ""
    prompt = next(iter(job.prompts), "")
    return Choice(
        snapshot.uid,
        ", ".join(filter(None, (step, measured, best))),
        # Where columns are narrow, only the beginning of the line is seen.
        " · ".join(filter(None, (measured.capitalize(), best, job.name))),
        reverse("job", args=[job.pk]),
        prompt if len(prompt) <= MAX_SUGGESTION_CHARACTERS else "",
    )


def read_groups(chosen: Iterable[Choice] = ()) -> list[ChoiceGroup]:
    """Returns what can be asked: the newest snapshots by job, then base models.

    What is chosen already is among them, however old it is.
    """
    by_job: dict[Job, list[Choice]] = {}
    for snapshot in Snapshot.objects.select_related("job")[:MAX_OFFERED_SNAPSHOTS]:
        by_job.setdefault(snapshot.job, []).append(of_snapshot(snapshot))
    groups = [ChoiceGroup(job.name, choices) for job, choices in by_job.items()]
    ready = [model for model in base_models() if model.is_ready(models_dir())]
    if ready:
        groups.append(
            ChoiceGroup("Base models", [of_base_model(model.name) for model in ready])
        )
    listed = {choice.value for group in groups for choice in group.choices}
    older = [choice for choice in chosen if choice.value not in listed]
    return groups + ([ChoiceGroup("Older", older)] if older else [])


def read_chosen(query: QueryDict) -> list[Choice]:
    """Returns what an address such as `?snapshot=UID&model=tiny` asks, a column each.

    Answers 404 if there is no such snapshot or model.
    """
    asked = [*query.getlist("snapshot"), *query.getlist("model")][:MAX_COLUMNS]
    return [choice_of(find(value), value) for value in asked]


def find(value: str) -> Snapshot | None:
    """Returns the snapshot of that uid, or None for a base model that is here.

    Answers 404 for anything else.
    """
    model = find_base_model(value)
    if model and model.is_ready(models_dir()):
        return None
    snapshots = Snapshot.objects.select_related("job__parent_snapshot__job")
    snapshot = snapshots.filter(uid=value).first()
    if snapshot is None:
        raise Http404("There is no such snapshot or base model.")
    return snapshot


def choice_of(snapshot: Snapshot | None, value: str) -> Choice:
    """Returns the choice for what `find` returned for `value`."""
    return of_base_model(value) if snapshot is None else of_snapshot(snapshot)


def address(chosen: Iterable[Choice]) -> str:
    """Returns the address of the playground with these choices."""
    pairs = [
        ("model" if find_base_model(choice.value) else "snapshot", choice.value)
        for choice in chosen
    ]
    return f"{reverse('playground')}?{urlencode(pairs)}"
