"""Shows a job as a bar on a terminal, and as plain lines everywhere else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from finetune_site.common.wording import count, duration, loss
from jobs.cli.event_lines import Verbosity
from jobs.cli.text import printable

Job = dict[str, Any]

# Without a bar the loss is told at every tenth of the steps, and after this long.
SHARES = 10
QUIET_SECONDS = 30
# What is too long for the terminal is cut, so that the bar stays one line.
ONE_LINE = Column(no_wrap=True, overflow="ellipsis")
# Smaller files are sent before a bar could be read.
LARGE_FILE_BYTES = 4_000_000


class Screen:
    """The place where a job is shown.

    `is_live`: it is a terminal, so a bar can be drawn and a person can be asked.
    """

    def __init__(self, verbosity: int, console: Console | None = None) -> None:
        self.verbosity = verbosity
        self.console = console or Console(highlight=False, markup=False, emoji=False)
        self.is_live = self.console.is_terminal
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._said = ""
        self._told_share, self._told_at = 0, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()

    def say(self, text: str, *, verbosity: int = Verbosity.NORMAL) -> None:
        """Prints text above the bar.

        The terminal breaks its lines, so that they can be copied whole.
        """
        if text and self.verbosity >= verbosity:
            self.console.print(printable(text), soft_wrap=True)

    def say_new(self, text: str) -> None:
        """Prints a line about a state, unless it is the line that was printed last."""
        if text and text != self._said:
            self.say(text)
        self._said = text

    def wait(self, text: str) -> None:
        """Shows what is waited for, beside a spinner or as a line."""
        if not self.is_live or self.verbosity == Verbosity.QUIET:
            return self.say_new(text)
        return self._draw(text, total=None)

    def show(self, job: Job) -> None:
        """Shows how far a running job is."""
        step, total = job.get("step") or 0, job.get("total_steps") or 0
        text = progress_text(job)
        if self.is_live and self.verbosity > Verbosity.QUIET:
            self._draw(text, total=total or None, completed=step)
        elif step and total and self._is_worth_a_line(step, total):
            self.say(text)

    def clear(self) -> None:
        """Takes the bar away."""
        if self._progress:
            self._progress.stop()
        self._progress = None

    @contextmanager
    def sending(self, name: str, num_bytes: int) -> Iterator[Any]:
        """Shows the bar of an upload; yields a function that moves it.

        The function takes the bytes that were sent, and all of them.
        """
        if not self.is_live or num_bytes < LARGE_FILE_BYTES:
            yield lambda done, total: None
            return
        with Progress(
            TextColumn("Sending {task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        ) as progress:
            task = progress.add_task(printable(name), total=num_bytes)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def _draw(self, text: str, *, total: int | None, completed: int = 0) -> None:
        if self._progress is None:
            self._progress = Progress(
                SpinnerColumn(),
                BarColumn(bar_width=min(24, max(8, self.console.width - 80))),
                TextColumn("{task.description}", markup=False, table_column=ONE_LINE),
                console=self.console,
                transient=True,
            )
            self._task = self._progress.add_task(text, total=total)
            self._progress.start()
        self._progress.update(
            self._task, description=text, total=total, completed=completed
        )

    def _is_worth_a_line(self, step: int, total: int) -> bool:
        if self.verbosity >= Verbosity.ALL:
            return False
        share, now = step * SHARES // total, time.monotonic()
        if share == self._told_share and now - self._told_at < QUIET_SECONDS:
            return False
        self._told_share, self._told_at = share, now
        return True


def progress_text(job: Job) -> str:
    """Returns `Step 31 of 78, train loss 2.41, validation loss 2.60, 0:12 left`."""
    parts = [f"Step {count(job.get('step') or 0)} of {count(job.get('total_steps'))}"]
    for name in ("train", "validation"):
        value = job.get(f"{name}_loss")
        if value is not None:
            parts.append(f"{name} loss {loss(value)}")
    left = job.get("seconds_left")
    if left is not None:
        parts.append(f"{duration(left)} left")
    return ", ".join(parts)
