"""The calls of this API, as an engine makes them to another server."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import requests

from finetune_site.common.file_form import FileForm, Progress
from jobs.engines.far_server import Answer, FarRefusalError, FarServer

# A far disk may make an upload wait, and a snapshot is loaded before its first word.
UPLOAD_TIMEOUT = (30.0, 120.0)
COMPLETION_TIMEOUT = (4.0, 150.0)
FILES_PER_PAGE = 1000
MAX_FILE_PAGES = 5
EVENTS_PER_PAGE = 1000


class FarApi(FarServer):
    """Jobs, files, models and completions of another server."""

    def find_job(self, client_job_id: str) -> Answer | None:
        """Returns the job that was made under this id, if one was."""
        query = {"metadata[client_job_id]": client_job_id, "limit": "1"}
        found = self._items(self.get("fine_tuning/jobs", query))
        # Filtered again, since an older server lists all of its jobs.
        mine = [
            job
            for job in found
            if (job.get("metadata") or {}).get("client_job_id") == client_job_id
        ]
        return mine[0] if mine else None

    def job(self, uid: str) -> Answer:
        """Returns the job with that id there."""
        return self.get(f"fine_tuning/jobs/{quote(uid)}")

    def create_job(self, body: Answer, *, key: str) -> Answer:
        """Creates a job and returns it. The same key never makes a second job."""
        return self.post("fine_tuning/jobs", body, key=key)

    def act(self, uid: str, action: str, body: Answer | None = None) -> Answer:
        """Changes a job, and returns it.

        `action` is cancel, pause, resume or snapshots.
        """
        return self.post(f"fine_tuning/jobs/{quote(uid)}/{action}", body or {})

    def events(self, uid: str, after: int) -> tuple[list[Answer], bool]:
        """Returns the job's events after that seq in order, and whether more follow.

        They are the lines of the far run folder's events.jsonl.
        """
        query = {"order": "asc", "limit": str(EVENTS_PER_PAGE)}
        if after:
            query["after"] = f"ftevent-{uid.partition('-')[2]}-{after:08d}"
        page = self.get(f"fine_tuning/jobs/{quote(uid)}/events", query)
        lines = [item.get("data") for item in self._items(page)]
        return [self._line(line) for line in lines], bool(page.get("has_more"))

    def find_file(self, sha256: str) -> str | None:
        """Returns the id of a file with exactly that content, if there is one."""
        query = {"purpose": "fine-tune", "limit": str(FILES_PER_PAGE)}
        for _ in range(MAX_FILE_PAGES):
            page = self.get("files", query)
            for file in self._items(page):
                if file.get("sha256") == sha256 and file.get("status") == "processed":
                    return str(file["id"])
            if not page.get("has_more"):
                return None
            query["after"] = str(page.get("last_id"))
        return None

    def upload(self, path: Path, name: str, *, key: str, progress: Progress) -> str:
        """Sends a file, and returns its id there. The same key makes no second file."""
        form = FileForm(path, name, progress)
        answer = self.call(
            "POST",
            "files",
            data=form,
            headers={"Content-Type": form.content_type, "Idempotency-Key": key},
            timeout=UPLOAD_TIMEOUT,
            seconds=UPLOAD_TIMEOUT[1],
        )
        return str(answer.get("id"))

    def has_model(self, name: str) -> bool:
        """Returns whether the far server has such a model. People wait for this."""
        try:
            self.get(f"models/{quote(name, safe='')}", timeout=(2.0, 4.0))
        except FarRefusalError as error:
            if not error.is_unknown:
                raise
            return False
        return True

    def complete(self, body: Answer) -> requests.Response:
        """Returns the response to a request for a completion, with its body unread."""
        return self.send(
            "POST",
            "completions",
            data=orjson.dumps(body),
            headers={"Content-Type": "application/json"},
            timeout=COMPLETION_TIMEOUT,
        )

    def paths(self) -> set[str]:
        """Returns the paths of the far OpenAPI document, which say what it can do."""
        paths = self.get("openapi.json").get("paths")
        if not isinstance(paths, dict):
            raise self.odd()
        return set(paths)

    def _items(self, page: Answer) -> list[Answer]:
        data = page.get("data")
        if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
            raise self.odd()
        return data

    def _line(self, line: Any) -> Answer:
        """Returns the event, if it has the fields that every event of a trainer has."""
        if not isinstance(line, dict):
            raise self.odd()
        counted = isinstance(line.get("seq"), int)
        timed = isinstance(line.get("time"), int | float)
        if not (counted and timed and isinstance(line.get("type"), str)):
            raise self.odd()
        return line
