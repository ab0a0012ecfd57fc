"""The film strip of watched prompts, with a row a prompt and a column a step."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from jobs.models import Job, Snapshot

# The first load shows so many columns besides step 0; a link shows the rest.
MAX_NEWEST_COLUMNS = 60


@dataclass(frozen=True)
class Column:
    """A step, and the snapshot that was taken at it."""

    step: int
    snapshot: Snapshot | None


@dataclass(frozen=True)
class Cell:
    """The completions of a prompt at a step; fewer than `expected` while they come."""

    row: int
    step: int
    texts: list[str]
    expected: int

    @property
    def num_missing(self) -> int:
        """How many completions are still to come."""
        return max(0, self.expected - len(self.texts))


@dataclass
class FilmRow:
    """A prompt and its completions at each step shown."""

    prompt: str
    cells: list[Cell] = field(default_factory=list)


@dataclass(frozen=True)
class Film:
    """The whole film strip, without the columns that are left out."""

    columns: list[Column]
    rows: list[FilmRow]
    # How many columns are left out between step 0 and the first one shown.
    num_hidden: int
    # The step that is answered next, while the job goes on.
    next_step: int | None

    @property
    def num_steps(self) -> int:
        """How many steps were answered, with those left out."""
        return len(self.columns) + self.num_hidden


def read_film(job: Job, newest: int | None = MAX_NEWEST_COLUMNS) -> Film:
    """Returns the film strip with the `newest` columns and step 0.

    With None it has all columns.
    """
    completions = _completions(job)
    steps = sorted(set(completions.values_list("step", flat=True).order_by()))
    shown = steps
    if newest is not None and len(steps) > newest + 1:
        shown = [steps[0], *steps[-newest:]]
    prompts = read_prompts(job)
    texts = _texts(job, shown)
    return Film(
        columns=read_columns(job, shown),
        rows=[
            FilmRow(prompt, [_cell(job, row, step, texts) for step in shown])
            for row, prompt in enumerate(prompts)
        ],
        num_hidden=len(steps) - len(shown),
        next_step=next_step(job),
    )


def read_columns(job: Job, steps: Collection[int]) -> list[Column]:
    """Returns the columns of some steps."""
    snapshots = {snapshot.step: snapshot for snapshot in job.snapshots.all()}
    return [Column(step, snapshots.get(step)) for step in steps]


def read_cells(job: Job, after: int) -> list[Cell]:
    """Returns all cells of the steps that got a completion after event `after`.

    If these are many, only the newest are returned, as on the first load: one thread
    renders for all pages.
    """
    steps = sorted(set(_new_steps(job, after)))[-MAX_NEWEST_COLUMNS:]
    if not steps:
        return []
    texts = _texts(job, steps)
    rows = range(len(read_prompts(job)))
    return [_cell(job, row, step, texts) for step in steps for row in rows]


def read_prompts(job: Job) -> list[str]:
    """Returns the prompts that the trainer answers.

    They are known from the events if nobody gave any.
    """
    if job.prompts:
        return list(job.prompts)
    first = _completions(job).values_list("step", flat=True).first()
    if first is None:
        return []
    data = _completions(job).filter(step=first).values_list("data", flat=True)
    prompts = {item["prompt_index"]: item["prompt"] for item in data}
    return [prompts[index] for index in sorted(prompts)]


def next_step(job: Job) -> int | None:
    """Returns the step whose completions come next, or None if none do."""
    if job.is_final or not job.settings.completions_every or not job.total_steps:
        return None
    done = _completions(job).values_list("step", flat=True).last()
    if done is None:
        return 0
    if done >= job.total_steps:
        return None
    every = job.settings.completions_every
    following = (done // every + 1) * every
    return min(following, job.total_steps)


def _completions(job: Job) -> Any:
    return job.told_events.filter(type="completion").order_by("seq")


def _new_steps(job: Job, after: int) -> Any:
    return _completions(job).filter(seq__gt=after).values_list("step", flat=True)


Texts = dict[tuple[int, int], dict[int, str]]


def _texts(job: Job, steps: Collection[int]) -> Texts:
    """Returns the completions of each row and step, by their index."""
    texts: Texts = defaultdict(dict)
    events = _completions(job).filter(step__in=steps).values_list("step", "data")
    for step, data in events:
        texts[data["prompt_index"], step][data["index"]] = data["text"]
    return texts


def _cell(job: Job, row: int, step: int, texts: Texts) -> Cell:
    found = texts.get((row, step), {})
    expected = 0 if job.is_final else job.settings.num_completions
    return Cell(row, step, [found[index] for index in sorted(found)], expected)
