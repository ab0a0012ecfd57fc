"""Answers /v1/files: the files that jobs learn from, and their tables of losses."""

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from ninja import File, Form, Router, Schema
from ninja.files import UploadedFile
from pydantic import Field

from datasets.models import DatasetVersion
from datasets.pages.import_report import what_became_of
from datasets.selectors import api_files
from datasets.services import delete_api_file, take_api_file
from finetune_site.common.parsing import is_text
from finetune_site.common.streaming import file_chunks
from finetune_site.common.wording import num_bytes
from finetune_site.team.access import current_member
from jobs.api.errors import ApiError, answers, not_found
from jobs.api.first_answer import answer_once
from jobs.api.keys import worker
from jobs.api.paging import Order, Page, page_of
from jobs.history.results import (
    find_result,
    finished_jobs,
    result_bytes,
    result_file_id,
    stream_result,
)
from jobs.models import Job

router = Router(tags=["Files"])

Status = DatasetVersion.Status
STATUS = {
    Status.COLUMNS: "uploaded",
    Status.IMPORTING: "uploaded",
    Status.READY: "processed",
    Status.FAILED: "error",
}
TRAINING, RESULTS = "fine-tune", "fine-tune-results"
# The number of results in one list: the size of each may have to be counted first.
MAX_RESULTS = 100
TEXT = {"schema": {"type": "string"}}
CONTENT_KINDS = {
    "responses": {200: {"content": {"application/jsonl": TEXT, "text/csv": TEXT}}}
}
# OpenAI's own server has the same limit.
Limit = Annotated[int, Field(ge=1, le=10_000)]


class FileShape(Schema):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    # The result of the import, with a line for each line that was left out.
    status_details: str | None = None
    # These are our own. They describe the examples of /content, once it is processed.
    sha256: str | None = None
    num_examples: int | None = None
    dataset: str | None = None


class DeletedFile(Schema):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


@router.post("/files", auth=worker, response=answers(FileShape))
def upload_file(
    request: HttpRequest, file: File[UploadedFile], purpose: Form[str]
) -> dict[str, Any]:
    """Makes a dataset of a file of examples, or the next version of one of its name.

    Takes `.jsonl` (this site's own form, prompts with completions, or chats) and
    `.txt`. Lines that cannot be used are left out and named in `status_details`.
    """
    member = current_member(request)
    return answer_once(
        request,
        prepare=lambda: checked_upload(file, purpose),
        make=lambda upload: show_file(take_api_file(member=member, upload=upload)),
    )


@router.get("/files", response=answers(Page[FileShape]))
def list_files(
    request: HttpRequest,
    purpose: str | None = None,
    limit: Limit = 10_000,
    after: str | None = None,
    order: Order = "desc",
) -> dict[str, Any]:
    """Returns the files, the newest first. Result files are listed by
    `purpose=fine-tune-results` only, a hundred at most.
    """
    if purpose == RESULTS:
        after = _uid_of(after)
        limit = min(limit, MAX_RESULTS)
        return page_of(
            finished_jobs(), show_result, limit=limit, after=after, order=order
        )
    files = listed_files() if purpose in (None, TRAINING) else api_files().none()
    return page_of(files, show_file, limit=limit, after=after, order=order)


@router.get("/files/{file_id}", response=answers(FileShape))
def retrieve_file(request: HttpRequest, file_id: str) -> dict[str, Any]:
    if job := find_result(file_id):
        return show_result(job)
    return show_file(get_file(file_id))


@router.get(
    "/files/{file_id}/content", response=answers(None), openapi_extra=CONTENT_KINDS
)
def download_file(request: HttpRequest, file_id: str) -> StreamingHttpResponse:
    """Returns the examples with loss weights, or a job's table of losses as CSV."""
    if job := find_result(file_id):
        return _attached(stream_result(job), "text/csv", _result_name(job))
    version = get_file(file_id)
    if version.status != Status.READY:
        raise ApiError(
            400,
            f"The file's status is {STATUS[Status(version.status)]}. There is content "
            "once it is processed.",
            param="file_id",
        )
    answer = _attached(
        file_chunks(version.examples_path), "application/jsonl", f"{file_id}.jsonl"
    )
    answer["Content-Length"] = str(version.num_bytes)
    return answer


@router.delete("/files/{file_id}", auth=worker, response=answers(DeletedFile))
def delete_file(request: HttpRequest, file_id: str) -> dict[str, Any]:
    """Deletes a file. Jobs that were trained on it keep it, but no other can use it."""
    if find_result(file_id):
        raise ApiError(
            400,
            "A result file belongs to its job, and goes when that is deleted.",
            param="file_id",
        )
    version = get_file(file_id)
    delete_api_file(member=current_member(request), version=version)
    return {"id": file_id}


def checked_upload(upload: UploadedFile, purpose: str) -> UploadedFile:
    """Returns the upload when it may become a dataset. Raises ApiError otherwise."""
    if purpose != TRAINING:
        raise ApiError(
            400,
            f'Files are for fine-tuning here: send the purpose "{TRAINING}", not '
            f"{purpose[:40]!r}.",
            param="purpose",
        )
    most = settings.MAX_UPLOAD_BYTES
    if (upload.size or 0) > most:
        raise ApiError(
            413, f"The file is too large: {num_bytes(most)} at most.", param="file"
        )
    write_to_disk(upload)
    return upload


def write_to_disk(upload: UploadedFile) -> None:
    """Flushes the upload before the transaction begins: it may take seconds, and until
    a transaction ends, nobody else can write to the database.
    """
    if isinstance(upload, TemporaryUploadedFile):
        os.fsync(upload.fileno())


def get_file(file_id: str) -> DatasetVersion:
    """Returns the file's version of a dataset. Raises ApiError if there is none."""
    found = api_files().filter(uid=file_id).first() if is_text(file_id) else None
    return found or not_found("file", file_id, param="file_id")


def listed_files() -> QuerySet[DatasetVersion]:
    return api_files().defer("shares")


def show_file(version: DatasetVersion) -> dict[str, Any]:
    ready = version.status == Status.READY
    return {
        "id": version.uid,
        "bytes": version.bytes_total,
        "created_at": int(version.created_at.timestamp()),
        "filename": version.source_name,
        "purpose": TRAINING,
        "status": STATUS[Status(version.status)],
        "status_details": what_became_of(version) or None,
        "sha256": version.sha256 or None,
        "num_examples": version.num_examples if ready else None,
        "dataset": version.dataset.name,
    }


def show_result(job: Job) -> dict[str, Any]:
    return {
        "id": result_file_id(job),
        "bytes": result_bytes(job),
        "created_at": int((job.finished_at or job.created_at).timestamp()),
        "filename": _result_name(job),
        "purpose": RESULTS,
        "status": "processed",
    }


def _result_name(job: Job) -> str:
    return f"{result_file_id(job)}.csv"


def _uid_of(after: str | None) -> str | None:
    """Returns the uid of the job whose result file `after` is."""
    if after is None:
        return None
    job = find_result(after)
    return job.uid if job else after


def _attached(
    parts: AsyncIterator[bytes], kind: str, name: str
) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        parts,
        content_type=f"{kind}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
