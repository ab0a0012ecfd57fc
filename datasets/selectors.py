"""Reads of datasets: lists, pages of examples with their draft, progress."""

from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

from django.db.models import Count, Max, Prefetch, QuerySet

from datasets.draft import Change, Draft
from datasets.files import read_examples
from datasets.import_request import ImportRequest
from datasets.models import Dataset, DatasetVersion, DraftChange
from finetune_site.common.errors import UserError
from finetune_site.common.parsing import is_text
from jobs.trainer.text.examples import Segment

PAGE_SIZE = 25
# What a page shows of one example; the rest is counted.
SHOWN_CHARACTERS = 3000
SHOWN_SEGMENTS = 100

Status = DatasetVersion.Status


@dataclass(frozen=True)
class ShownExample:
    number: int
    segments: list[Segment]
    characters_left_out: int


@dataclass(frozen=True)
class ExamplePage:
    examples: list[ShownExample]
    number: int
    num_pages: int

    @property
    def first(self) -> int:
        return (self.number - 1) * PAGE_SIZE + 1

    @property
    def last(self) -> int:
        return self.first + len(self.examples) - 1


def list_datasets() -> QuerySet[Dataset]:
    versions = DatasetVersion.objects.select_related("created_by").order_by("-number")
    return (
        Dataset.objects.prefetch_related(Prefetch("versions", queryset=versions))
        .annotate(num_versions=Count("versions"))
        .order_by("-id")
    )


def list_versions(dataset: Dataset) -> list[DatasetVersion]:
    versions = dataset.versions.select_related("created_by", "parent")
    return list(
        versions.annotate(
            num_jobs=Count("jobs", distinct=True)
            + Count("validating_jobs", distinct=True),
            num_changes=Count("draft_changes", distinct=True),
        ).order_by("-number")
    )


def api_files() -> QuerySet[DatasetVersion]:
    """Versions as the API knows them: files, but for those deleted there."""
    return DatasetVersion.objects.filter(file_deleted=False).select_related("dataset")


def find_file(uid: str, *, field: str = "file") -> DatasetVersion:
    """UserError, at `field`: there is no such file."""
    version = api_files().filter(uid=uid).first() if is_text(uid) else None
    if version is None:
        raise UserError(
            f"There is no file {uid[:100]!r} here, or it was deleted. Upload it first "
            "and send the id of the answer.",
            field=field,
        )
    return version


def newest_ready(versions: list[DatasetVersion]) -> DatasetVersion | None:
    return next((v for v in versions if v.status == Status.READY), None)


def draft_of(version: DatasetVersion) -> Draft:
    rows = DraftChange.objects.filter(version=version)
    return Draft(
        Change(*row) for row in rows.values_list("id", "example", "segment", "weight")
    )


def last_saving_change(version: DatasetVersion) -> int:
    """Up to which change the draft is being written into a version; 0 if it is not."""
    saving = DatasetVersion.objects.filter(parent=version, status=Status.IMPORTING)
    return max(
        (ImportRequest.read(child.folder).last_change for child in saving), default=0
    )


def example_of(version: DatasetVersion, example: int) -> list[Segment]:
    """One example as it is in the version, counted from 0."""
    segments = next(read_examples(version.examples_path, example, 1), None)
    if segments is None:
        raise UserError(
            f"There is no example {example + 1:,}: {version} has "
            f"{version.num_examples:,}."
        )
    return segments


def page_of_examples(version: DatasetVersion, number: int, draft: Draft) -> ExamplePage:
    """`number` counts from 1; too high a number gives the last page."""
    num_pages = max(1, -(-version.num_examples // PAGE_SIZE))
    number = min(max(1, number), num_pages)
    first = (number - 1) * PAGE_SIZE
    examples = read_examples(version.examples_path, first, PAGE_SIZE)
    return ExamplePage(
        [
            _shown(at, segments, draft)
            for at, segments in enumerate(examples, start=first)
        ],
        number,
        num_pages,
    )


def page_with(example: int) -> int:
    """The page that shows an example, both counted from 1."""
    return (max(1, example) - 1) // PAGE_SIZE + 1


def progress_of(dataset: Dataset) -> dict[str, Any]:
    """What the page asks for while a version is importing."""
    importing = dataset.versions.filter(status=Status.IMPORTING)
    version = importing.order_by("-number").first()
    if version is None:
        return {"importing": False}
    return {
        "importing": True,
        "version": version.number,
        "done": version.bytes_done,
        "total": version.bytes_total,
    }


def last_import_activity() -> datetime | None:
    """When an import that is not over last renewed its claim."""
    importing = DatasetVersion.objects.filter(status=Status.IMPORTING)
    newest: datetime | None = importing.aggregate(at=Max("claimed_at"))["at"]
    return newest


def clip(segments: list[Segment], most: int) -> tuple[list[Segment], int]:
    """The first `most` characters, and how many were left out. Every segment stays."""
    ends = list(accumulate(len(text) for text, _ in segments))
    clipped = [
        (text[: max(0, most - end + len(text))], weight)
        for (text, weight), end in zip(segments, ends, strict=True)
    ]
    return clipped, max(0, ends[-1] - most)


def _shown(at: int, segments: list[Segment], draft: Draft) -> ShownExample:
    changed, left_out = clip(draft.apply(at, segments), SHOWN_CHARACTERS)
    left_out += sum(len(text) for text, _ in changed[SHOWN_SEGMENTS:])
    return ShownExample(at + 1, changed[:SHOWN_SEGMENTS], left_out)
