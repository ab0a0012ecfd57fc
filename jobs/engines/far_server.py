"""Another server with this API over HTTP, with limits of time and size.

Whatever goes wrong ends in one of two errors. EngineTroubleError: there was no good
answer; it may pass, and what was asked for may have been done or not. FarRefusalError:
the server said no.
"""

from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests

from finetune_site.common import outbound
from finetune_site.common.errors import TooLongError, UserError
from finetune_site.common.no_answer import is_broken_off, why_no_answer
from finetune_site.common.outbound import RefusedAddressError
from jobs.engines.base import EngineTroubleError

Answer = dict[str, Any]

# The seconds to connect, and between two bytes of an answer.
TIMEOUT = (4.0, 10.0)
# The seconds for a whole answer.
ANSWER_SECONDS = 60.0
MAX_ANSWER_BYTES = 100_000_000
MAX_RETRY_AFTER_SECONDS = 60.0
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


class FarServer:
    """The server at `url`. Its errors name the engine `name`."""

    def __init__(self, name: str, url: str, key: str, *, allow_private: bool) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.session = outbound.session(allow_private=allow_private)
        self.session.headers["Authorization"] = f"Bearer {key}"

    def get(
        self, path: str, query: dict[str, str] | None = None, **options: Any
    ) -> Answer:
        """Returns the object that a GET is answered with."""
        return self.call("GET", path, params=query, **options)

    def post(self, path: str, body: Answer, *, key: str = "") -> Answer:
        """Returns the object that a POST is answered with."""
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        return self.call("POST", path, data=orjson.dumps(body), headers=headers)

    def call(
        self, method: str, path: str, *, seconds: float = ANSWER_SECONDS, **options: Any
    ) -> Answer:
        """Returns the object that a request is answered with.

        `seconds` is for the whole answer; `options` are those of `requests`.
        """
        response = self.send(method, path, **options)
        answer = _as_json(self.read(response, seconds))
        if not isinstance(answer, dict):
            raise self.odd()
        return answer

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
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
