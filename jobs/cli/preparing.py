"""`openai-ft prepare FILE`: checks examples and writes them in our form."""

import argparse
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import BinaryIO

from datasets.reading.batches import join_by, meets_unspaced
from finetune_site.common.errors import UserError
from finetune_site.common.wording import counted
from jobs.cli.example_rows import Row, read_rows
from jobs.cli.problems import Exit, Problem
from jobs.cli.text import one_line, printable
from jobs.trainer.text.examples import dump_line
from jobs.trainer.text.line_forms import LineForm

JOINERS = {"nothing": "", "space": " ", "newline": "\n"}
MAX_PROBLEMS = 20
# How many examples are remembered to notice repeats; more would fill the memory.
MAX_REMEMBERED = 2_000_000
FORM_WORDS = {
    LineForm.PROMPT: "of a prompt, which is read (loss weight 0), and a completion, "
    "which is learned (1)",
    LineForm.CHAT: "of a chat, left as they are: the site writes chats out itself",
}


@dataclass
class Report:
    """What was found in a file, counted while it is read."""

    num_examples: int = 0
    # Lines that are written differently from how they stood in the file.
    num_changed: int = 0
    num_joined: int = 0
    num_unspaced: int = 0
    num_repeated: int = 0
    unspaced: str = ""
    forms: Counter[LineForm] = field(default_factory=Counter)
    num_problems: int = 0
    problems: list[Row] = field(default_factory=list)

    @property
    def needs_no_change(self) -> bool:
        """Whether the file can be used as it is."""
        return not (self.num_changed or self.num_problems)

    def note_problem(self, row: Row) -> None:
        """Counts a line that is no example."""
        self.num_problems += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(row)


def prepare(args: argparse.Namespace) -> Exit:
    """Writes the examples of a file beside it, if that is needed. Raises Problem."""
    path = Path(args.file)
    if not path.is_file():
        raise Problem(f"There is no file {path} here.")
    report = Report()
    try:
        with draft_beside(path) as (draft, part):
            write_examples(
                read_rows(path, args.split), JOINERS[args.join], draft, report
            )
            draft.close()
            target = None
            if report.num_examples and not report.needs_no_change:
                target = publish(part, path)
    except UserError as error:
        raise Problem(f"{path}: {error.message}") from None
    except OSError as error:
        raise Problem(f"{error.filename or path}: {error.strerror}.") from None
    print(printable("\n".join(report_lines(path, target, report))))
    return Exit.OK if report.num_examples else Exit.USAGE


def write_examples(
    rows: Iterable[Row], joiner: str, out: BinaryIO, report: Report
) -> None:
    """Writes the rows that are examples as lines, and notes them in the report."""
    seen: set[bytes] = set()
    for row in rows:
        if row.problem:
            report.note_problem(row)
            continue
        line = example_line(row, joiner, report)
        digest = hashlib.blake2b(line, digest_size=8).digest()
        report.num_repeated += digest in seen
        if len(seen) < MAX_REMEMBERED:
            seen.add(digest)
        report.num_examples += 1
        report.forms[row.form] += 1
        report.num_changed += line != row.raw
        out.write(line + b"\n")


def example_line(row: Row, joiner: str, report: Report) -> bytes:
    """Returns a row as a line of a file to train on, without its end.

    A chat stays a chat, so that the snapshot is asked in the same way later.
    """
    if row.form == LineForm.CHAT:
        return row.raw
    segments = join_by(row.segments, joiner)
    is_joined = segments != list(row.segments)
    report.num_joined += is_joined
    note_unspaced([text for text, _ in segments if text], report)
    # In our form already, though perhaps with spaces elsewhere.
    if not is_joined and b'"loss_weights"' in row.raw:
        return row.raw
    return dump_line(segments)[:-1]


def note_unspaced(texts: list[str], report: Report) -> None:
    """Notes whether two of an example's texts meet without white space."""
    for before, after in zip(texts, texts[1:], strict=False):
        if meets_unspaced(before, after):
            report.num_unspaced += 1
            report.unspaced = report.unspaced or f"{before[-12:]}{after[:12]}"
            return


@contextmanager
def draft_beside(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Yields a new file on the same disk, which is deleted unless it gets a name."""
    handle, name = tempfile.mkstemp(prefix=".openai-ft-", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, part
    finally:
        part.unlink(missing_ok=True)


def publish(part: Path, path: Path) -> Path:
    """Gives the draft a name that no file has, and returns its new path."""
    for number in count(1):
        mark = "_prepared" if number == 1 else f"_prepared_{number}"
        target = path.with_name(f"{path.stem}{mark}.jsonl")
        try:
            # The name is taken first, so that two processes do not take the same.
            target.open("xb").close()
        except FileExistsError:
            continue
        part.chmod(0o666 & ~_umask())
        part.replace(target)
        return target
    raise AssertionError("there is always another number")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def report_lines(path: Path, target: Path | None, report: Report) -> Iterator[str]:
    """Yields what is said of a file. `target` is the new file, if there is one."""
    examples = counted(report.num_examples, "example")
    if not report.num_examples:
        yield f"{path} holds no example that can be read."
    elif target is None:
        yield f"{path} is ready as it is: {examples}."
    else:
        yield f"{examples} written to {target}."
    for form, words in FORM_WORDS.items():
        if number := report.forms[form]:
            yield f"{counted(number, 'line')} {words}."
    if report.num_joined:
        joined = counted(report.num_joined, "example")
        yield f"White space was put between the segments of {joined}."
    yield from _problem_lines(report)
    yield from _notes(report)
    if report.num_examples:
        yield f"Train on it: openai-ft -t {target or path}"


def _problem_lines(report: Report) -> Iterator[str]:
    if not report.num_problems:
        return
    yield f"{counted(report.num_problems, 'line')} left out:"
    for row in report.problems:
        yield f"  line {row.line:,}: {one_line(row.problem, 300)}"
    if report.num_problems > MAX_PROBLEMS:
        yield f"  and {report.num_problems - MAX_PROBLEMS:,} more"


def _notes(report: Report) -> Iterator[str]:
    if report.num_unspaced:
        yield (
            f"In {counted(report.num_unspaced, 'example')} segments meet without white "
            f"space, as in “{one_line(report.unspaced, 30)}”. If that is not meant: "
            "--join space"
        )
    if report.num_repeated:
        yield (
            f"{counted(report.num_repeated, 'example repeats', 'examples repeat')} an "
            "earlier one word for word; all were kept."
        )
