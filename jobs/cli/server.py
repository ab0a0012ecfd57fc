"""Calls the API, and turns what goes wrong into words."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from finetune_site.common.event_stream import BrokenStreamError, read_event_stream
from finetune_site.common.no_answer import why_no_answer
from jobs.cli.problems import Away, Exit, Problem, Refusal

DEFAULT_URL = "http://127.0.0.1:8000/v1"
CONNECT_SECONDS = 10
# The server itself waits up to 120 s, for a model to load or tokens to be counted.
ANSWER_SECONDS = 150
PATIENCE_SECONDS = 300
MAX_PAUSE_SECONDS = 30
LATER = {429, 502, 503, 504}

Answer = dict[str, Any]

NO_KEY = """OPENAI_API_KEY is not set. The server wants to know who asks.
Make a key on the site's page Team, or on its machine with
    .venv/bin/python manage.py create_api_key USERNAME
and set it: export OPENAI_API_KEY=..."""


class Bearer(AuthBase):
    """Sends the key, as the session's `auth`.

    A header alone would give way to a password in ~/.netrc.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.key}"
        return request


class Server:
    """A server with this API, reached at `url` with a key.

    Where it says "later", it is asked again for `patience` seconds, and `on_later` gets
    its words at once. With `trace` each call is logged to standard error.
    All methods raise Away or Refusal if there is no good answer.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        trace: bool = False,
        patience: float = PATIENCE_SECONDS,
        on_later: Callable[[str], None] | None = None,
    ) -> None:
        self.url = url
        self.trace = trace
        self.patience = patience
        self.on_later = on_later
        self.session = requests.Session()
        self.session.auth = Bearer(key)

    def get(self, path: str, **params: Any) -> Answer:
        """Returns what a GET is answered with."""
        return self._patiently("GET", path, params=params)

    def post(self, path: str, body: Any = None, *, key: str = "") -> Answer:
        """Returns what a POST is answered with.

        It is sent once: only the caller knows whether it may be sent again.
        """
        headers = {"Idempotency-Key": key} if key else {}
        return _read(self.send("POST", path, json=body, headers=headers))

    def ask(self, path: str, body: Any = None) -> Answer:
        """Returns what a POST is answered with that changes nothing.

        It is sent again where the server says "later".
        """
        return self._patiently("POST", path, json=body)

    def stream(self, path: str, body: Answer) -> Iterator[Answer]:
        """Yields the objects of an event stream as they come. Raises Problem."""
        response = self._wait_through_later("POST", path, json=body, stream=True)
        try:
            with response:
                for event in read_event_stream(response.iter_content(chunk_size=None)):
                    _check_event(event)
                    yield event
        except BrokenStreamError:
            raise Away("The answer broke off.") from None
        except requests.RequestException as error:
            raise Away(f"The answer broke off ({why_no_answer(error)}).") from None

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """Sends one request, and returns the response if it is one of success."""
        began = time.monotonic()
        try:
            response = self.session.request(
                method,
                self.url + path,
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
                **options,
            )
        except requests.RequestException as error:
            raise Away(no_answer(self.url, why_no_answer(error))) from None
        if self.trace:
            seconds = time.monotonic() - began
            line = f"{method} {path} {response.status_code} in {seconds:.3f} s"
            print(line, file=sys.stderr)
        if response.status_code >= 400:
            raise _as_problem(response, self.url)
        return response

    def _patiently(self, method: str, path: str, **options: Any) -> Answer:
        return _read(self._wait_through_later(method, path, **options))

    def _wait_through_later(
        self, method: str, path: str, **options: Any
    ) -> requests.Response:
        """Sends a request, again and again while the answer is "later".

        A server that does not answer at all is not waited for.
        """
        deadline = time.monotonic() + self.patience
        told = ""
        while True:
            try:
                return self.send(method, path, **options)
            except Away as error:
                left = deadline - time.monotonic()
                if error.retry_after is None or left <= 0:
                    raise
                if self.on_later and str(error) != told:
                    told = str(error)
                    self.on_later(told)
                time.sleep(min(error.retry_after, MAX_PAUSE_SECONDS, left))


def from_environment(env: Mapping[str, str] = os.environ, **options: Any) -> Server:
    """Returns the server that the environment names.

    Raises Problem if something is missing or wrong.
    """
    url = env.get("OPENAI_BASE_URL") or env.get("OPENAI_API_BASE") or DEFAULT_URL
    key = env.get("OPENAI_API_KEY", "").strip()
    if not key:
        raise Problem(NO_KEY, Exit.SERVER)
    if not (key.isascii() and key.isprintable()):
        raise Problem(
            "OPENAI_API_KEY holds characters that no key has. Copy it again.",
            Exit.SERVER,
        )
    return Server(clean_url(url), key, **options)


def clean_url(url: str) -> str:
    """Returns the base of all paths, to which /v1 is added if there is no path.

    Raises Problem if it is no address.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise Problem(
            f"OPENAI_BASE_URL is {url!r}; write it like {DEFAULT_URL}.", Exit.SERVER
        )
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def no_answer(url: str, reason: str) -> str:
    """Returns the words for a server that does not answer."""
    return (
        f"No answer from {url} ({reason}).\nIs the site running, and is this its "
        "address? OPENAI_BASE_URL says where it is."
    )


def _as_problem(response: requests.Response, url: str) -> Problem:
    status, error = response.status_code, _error_of(response)
    if error is None and status < 500 and status not in LATER:
        return Refusal(
            f"{url} answers, but not as this API does (status {status}). The address "
            "in OPENAI_BASE_URL has to end in /v1.",
            status=status,
        )
    error = error or {}
    message = str(error.get("message") or f"The server answered with status {status}.")
    if status in LATER:
        return Away(message, retry_after=_retry_after(response))
    if status >= 500:
        return Away(message)
    if status == 401:
        message = (
            f"{url} does not know the key in OPENAI_API_KEY. It may have been revoked: "
            "make another one on the site's page Team."
        )
    return Refusal(
        message, status=status, param=error.get("param"), code=error.get("code")
    )


def _error_of(response: requests.Response) -> Answer | None:
    """Returns the error of a response, if it has the one shape of this API."""
    try:
        body = response.json()
    except ValueError:
        return None
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else None


def _check_event(event: Answer) -> None:
    """Raises Away for an event that says that the server could not go on."""
    if error := event.get("error"):
        raise Away(str(error.get("message", "The server could not go on.")))


def _retry_after(response: requests.Response) -> float:
    try:
        return max(0.1, float(response.headers.get("retry-after", "")))
    except ValueError:
        return 1.0


def _read(response: requests.Response) -> Answer:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    raise Refusal(
        f"{response.url} answers, but not as this API does. The address in "
        "OPENAI_BASE_URL has to end in /v1.",
        status=response.status_code,
    )
