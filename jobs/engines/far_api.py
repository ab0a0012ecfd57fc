"""A client of another server with this API: single calls, with time limits.

Whatever goes wrong ends in one of two errors. EngineTroubleError: there was no good
answer; it may pass, and what was asked for may have been done or not. FarRefusalError:
the server said no.
"""

from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import requests

from finetune_site.common import outbound
from finetune_site.common.errors import TooLongError, UserError
from finetune_site.common.file_form import FileForm, Progress
from finetune_site.common.no_answer import is_broken_off, why_no_answer
from finetune_site.common.outbound import RefusedAddressError
from jobs.engines.base import EngineTroubleError

Answer = dict[str, Any]

# The seconds to connect, and between two bytes of an answer.
TIMEOUT = (4.0, 10.0)
# The seconds for a whole answer.
ANSWER_SECONDS = 60.0
MAX_ANSWER_BYTES = 100_000_000
# A far disk may make an upload wait, and a snapshot is loaded before its first word.
UPLOAD_TIMEOUT = (30.0, 120.0)
COMPLETION_TIMEOUT = (4.0, 150.0)
MAX_RETRY_AFTER_SECONDS = 60.0
FILES_PER_PAGE = 1000
MAX_FILE_PAGES = 5
EVENTS_PER_PAGE = 1000
# How much of the far server's own words is shown.
MAX_WORDS_CHARACTERS = 300
# The code of OpenAI's API for a prompt that the model cannot read.
TOO_LONG = "context_length_exceeded"


class KeyTroubleError(EngineTroubleError):
    """The key is wrong, or may not do this. It passes once somebody changes it."""


class FarRefusalError(UserError):
    """The far server understood, and said no."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_unknown(self) -> bool:
        """Whether the far server does not have what was asked for."""
        return self.status == HTTPStatus.NOT_FOUND


class FarApi:
    """A client of the server at `url`. Its errors name the engine `name`."""

    def __init__(self, name: str, url: str, key: str, *, allow_private: bool) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.session = outbound.session(allow_private=allow_private)
        self.session.headers["Authorization"] = f"Bearer {key}"

    # ----- calls

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
        answer = self._call(
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
        return self._send(
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

    # ----- how

    def get(
        self, path: str, query: dict[str, str] | None = None, **options: Any
    ) -> Answer:
        """Returns the object that a GET is answered with."""
        return self._call("GET", path, params=query, **options)

    def post(self, path: str, body: Answer, *, key: str = "") -> Answer:
        """Returns the object that a POST is answered with."""
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        return self._call("POST", path, data=orjson.dumps(body), headers=headers)

    def _call(
        self, method: str, path: str, *, seconds: float = ANSWER_SECONDS, **options: Any
    ) -> Answer:
        response = self._send(method, path, **options)
        answer = _as_json(self.read(response, seconds))
        if not isinstance(answer, dict):
            raise self.odd()
        return answer

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        """Returns a response of success, with its body unread."""
        options.setdefault("timeout", TIMEOUT)
        options["stream"] = True
        url = f"{self.url}/{path}"
        try:
            try:
                response = self.session.request(method, url, **options)
            except requests.ConnectionError as error:
                if method != "GET" or not is_broken_off(error):
                    raise
                # Most likely this was a kept connection that was closed there just now.
                response = self.session.request(method, url, **options)
        except RefusedAddressError as error:
            raise EngineTroubleError(error.message) from None
        except requests.RequestException as error:
            raise self._no_answer(error) from None
        if response.status_code >= 300:
            raise self._refusal(response)
        return response

    def read(
        self, response: requests.Response, seconds: float = ANSWER_SECONDS
    ) -> bytes:
        """Returns the body of a response, within the limits of time and size."""
        try:
            return outbound.read_answer(
                response, max_bytes=MAX_ANSWER_BYTES, seconds=seconds
            )
        except requests.RequestException as error:
            raise self._no_answer(error) from None

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

    # ----- what to say

    def _refusal(self, response: requests.Response) -> UserError:
        status = response.status_code
        found = _as_json(self.read(response))
        error = found.get("error") if isinstance(found, dict) else None
        words = (
            str(error.get("message"))[:MAX_WORDS_CHARACTERS]
            if isinstance(error, dict)
            else ""
        )
        if 300 <= status < 400:
            to = response.headers.get("location", "another address")[
                :MAX_WORDS_CHARACTERS
            ]
            return EngineTroubleError(
                f"The engine {self.name} sends this site on to {to}. Add it again with "
                "the address that answers itself."
            )
        if status == HTTPStatus.UNAUTHORIZED:
            return KeyTroubleError(
                f"The engine {self.name} does not accept the key that this site has "
                "for it. Make a new key there, and enter it on the Engines page."
            )
        if status == HTTPStatus.FORBIDDEN:
            return KeyTroubleError(
                f"The key of the engine {self.name} may not do this there. It says: "
                f"{words or 'forbidden'}"
            )
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
            said = f": {words}" if words else ""
            return EngineTroubleError(
                f"The engine {self.name} cannot answer now ({status}){said}",
                retry_after=_seconds(response.headers.get("retry-after", "")),
            )
        if not isinstance(error, dict):
            return self.odd(status)
        if error.get("code") == TOO_LONG:
            return TooLongError(words, field=error.get("param"))
        return FarRefusalError(words, status)

    def _no_answer(self, error: requests.RequestException) -> EngineTroubleError:
        return EngineTroubleError(
            f"The engine {self.name} does not answer at {_origin(self.url)}: "
            f"{why_no_answer(error)}."
        )

    def odd(self, status: int = 200) -> EngineTroubleError:
        """Returns the error of an answer that has not the shape of this API."""
        return EngineTroubleError(
            f"What answers at {self.url} is not this API ({status}). Check the address "
            f"of the engine {self.name}: it is the client's base URL and ends in /v1."
        )


def _as_json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _seconds(text: str) -> float:
    try:
        return min(max(float(text), 0.0), MAX_RETRY_AFTER_SECONDS)
    except ValueError:
        return 0.0


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
