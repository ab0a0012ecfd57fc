"""[contract] Reads models and their files from Hugging Face's hub, or one like it.

Only the hub's own hosts are asked, also after redirects. The token goes only to the
hub, never to the hosts that serve its files.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from finetune_site.common.errors import UserError
from finetune_site.common.wording import num_bytes
from jobs.base_models.model_folder import (
    INDEX,
    NOT_STATED,
    WEIGHTS,
    check_config,
    printable,
)

# The hosts of Hugging Face's hub and of its files. Their subdomains are theirs too.
HUB_HOSTS = ("huggingface.co", "hf.co")
HOST = re.compile(r"[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})+")
PORTS = {"http": 80, "https": 443}
HUB_ID = re.compile(r"(?:[\w-][\w.-]{0,95}/)?[\w-][\w.-]{0,95}", re.ASCII)
# Seconds to wait for a connection, and for the next bytes.
TIMEOUT = (4.0, 10.0)
# A page waits for a look-up, so it ends after this time even if bytes keep coming.
LOOK_UP_SECONDS = 20.0
MAX_REDIRECTS = 5
MAX_ANSWER_BYTES = 16_000_000
# Of a tokenizer, a configuration or an index, which are read into memory at once.
MAX_TEXT_FILE_BYTES = 128_000_000
WEIGHTS_ENDING = ".safetensors"
# No model is larger, and the database takes no larger number.
MAX_MODEL_BYTES = 10**18
PIECE_BYTES = 64 * 1024

SMALL_FILES = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json"
    r"|special_tokens_map\.json|chat_template\.jinja|README\.md|LICENSE(?:\.md|\.txt)?"
)
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
DIGEST = {"sha256": re.compile("[0-9a-f]{64}"), "git-sha1": re.compile("[0-9a-f]{40}")}

UNREADABLE_ADDRESS = (
    "The model hub sent this site on to an address that cannot be read, so nothing was "
    "fetched from there. Check FINETUNE_HUB_ENDPOINT."
)


class HubUnreachableError(UserError):
    """Says that the hub gave no answer, or one that a later try may improve."""


@dataclass(frozen=True)
class HubFile:
    """One file of a model. `size` is in bytes."""

    name: str
    size: int
    # How the digest of its content is made: `sha256`, or for small files `git-sha1`,
    # which is the SHA-1 that git gives to a file.
    algorithm: str
    digest: str


@dataclass(frozen=True)
class HubModel:
    """The files of a model that are downloaded, at one commit."""

    hub_id: str
    revision: str
    licence: str
    files: tuple[HubFile, ...]

    @property
    def num_bytes(self) -> int:
        """The size of all files in bytes."""
        return sum(file.size for file in self.files)


class Hub:
    """Asks the hub at an address, with a token if there is one."""

    def __init__(self, endpoint: str, token: str = "") -> None:
        self.endpoint = endpoint.rstrip("/")
        self.session = requests.Session()
        self.session.auth = HubToken(self.endpoint, token)
        # Ranges must count the bytes of the file itself and not of a compressed one.
        self.session.headers["Accept-Encoding"] = "identity"

    def look_up(self, hub_id: str) -> HubModel:
        """Returns the newest commit of a model.

        Raises UserError if the model cannot be found or cannot be trained.
        """
        deadline = time.monotonic() + LOOK_UP_SECONDS
        url = f"{self.endpoint}/api/models/{quote(hub_id)}/revision/main?blobs=true"
        model = self._described(hub_id, self._json(url, hub_id, deadline))
        url = self.address(hub_id, model.revision, "config.json")
        config = self._json(url, hub_id, deadline)
        with self._shape_checked():
            check_config(config)
        return model

    def read(self, model: HubModel, file: HubFile, start: int) -> "Content":
        """Returns a file's bytes from `start` on, or all if the hub gives no ranges."""
        url = self.address(model.hub_id, model.revision, file.name)
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = self._get(url, model.hub_id, headers)
        return Content(response, start if response.status_code == 206 else 0)

    def address(self, hub_id: str, revision: str, name: str) -> str:
        """Returns the address of a file at one commit."""
        return f"{self.endpoint}/{quote(hub_id)}/resolve/{revision}/{quote(name)}"

    def page(self, hub_id: str) -> str:
        """Returns the page where people read about a model and accept its licence."""
        return f"{self.endpoint}/{quote(hub_id)}"

    def _described(self, hub_id: str, about: dict[str, Any]) -> HubModel:
        revision = str(about.get("sha", ""))
        with self._shape_checked():
            files = tuple(choose_files(about.get("siblings") or []))
            model = HubModel(hub_id, revision, licence_of(about), files)
        known = re.fullmatch("[0-9a-f]{7,64}", revision)
        if not known or model.num_bytes > MAX_MODEL_BYTES:
            raise UserError(self._odd_answer())
        return model

    @contextmanager
    def _shape_checked(self) -> Iterator[None]:
        """Turns errors of code that reads an answer into a UserError.

        A server may send an answer of any shape.
        """
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError, RecursionError):
            raise UserError(self._odd_answer()) from None

    def _json(self, url: str, hub_id: str, deadline: float) -> dict[str, Any]:
        content = bytearray()
        for piece in Content(self._get(url, hub_id, {}), 0):
            content += piece
            if len(content) > MAX_ANSWER_BYTES:
                raise UserError(self._odd_answer())
            if time.monotonic() > deadline:
                raise HubUnreachableError(
                    f"The model hub took longer than {LOOK_UP_SECONDS:.0f} seconds to "
                    "answer. Try again in a few minutes."
                )
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise UserError(self._odd_answer())
        return answer

    def _get(self, url: str, hub_id: str, headers: dict[str, str]) -> requests.Response:
        for _ in range(MAX_REDIRECTS):
            response = self._get_once(url, headers)
            if not response.is_redirect:
                self._check_answer(response, hub_id)
                return response
            response.close()
            url = self._sent_on(url, response.headers["location"])
        raise UserError("The model hub sent this site around in circles. Try again.")

    def _sent_on(self, url: str, location: str) -> str:
        """Returns where a redirect leads; raises UserError if it may not lead there."""
        try:
            url = urljoin(url, location)
            to = urlsplit(sent_address(url))
        except ValueError:
            raise UserError(UNREADABLE_ADDRESS) from None
        if not is_hub_address(url, self.endpoint):
            raise UserError(
                f"The model hub sent this site on to {to.scheme}://{to.netloc}, which "
                "is no address of the hub, so nothing was fetched from there. Check "
                "FINETUNE_HUB_ENDPOINT."
            )
        return url

    def _get_once(self, url: str, headers: dict[str, str]) -> requests.Response:
        try:
            return self.session.get(
                url,
                headers=headers,
                stream=True,
                timeout=TIMEOUT,
                allow_redirects=False,
            )
        except (requests.ConnectionError, requests.Timeout):
            raise HubUnreachableError(
                "The model hub could not be reached from this machine "
                f"({urlsplit(url).hostname} gives no answer). Check its connection to "
                "the internet."
            ) from None
        except requests.RequestException as error:
            raise UserError(
                f"The model hub cannot be asked ({error}). Check FINETUNE_HUB_ENDPOINT."
            ) from None
        except ValueError:
            # requests reads the address of a redirect even when it must not follow it.
            raise UserError(UNREADABLE_ADDRESS) from None

    def _check_answer(self, response: requests.Response, hub_id: str) -> None:
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        if status in (200, 206):
            return
        response.close()
        if code == "GatedRepo" or status == 403:
            raise UserError(
                f"{hub_id} is only given to people who accepted its licence. Accept it "
                f"at {self.page(hub_id)}, then start the site with HF_TOKEN set to "
                "your token of the hub."
            )
        if status == 401:
            raise UserError(
                f"The hub shows this site no {hub_id}: there is none, or it is "
                f"private. Check the id; for a private model, accept its licence at "
                f"{self.page(hub_id)} and start the site with HF_TOKEN set to your "
                "token of the hub."
            )
        if status == 404 and "/resolve/" in response.url:
            raise UserError(
                f"The hub no longer has this version of {hub_id}. Remove the model, "
                "then get the newest one."
            )
        if status == 404:
            raise UserError(
                f"The hub has no {hub_id}. Check the id on the model's page there."
            )
        if status == 429 or status >= 500:
            raise HubUnreachableError(
                f"The model hub is not able to answer now ({status}). Try again in a "
                "few minutes."
            )
        raise UserError(self._odd_answer(status))

    def _odd_answer(self, status: int = 200) -> str:
        return (
            f"{urlsplit(self.endpoint).hostname} does not answer as a model hub does "
            f"({status}). Check FINETUNE_HUB_ENDPOINT, and whether a proxy answers "
            "instead."
        )


class HubToken(AuthBase):
    """Adds the token to requests to the hub's own address only.

    It is set even without a token, because then requests does not use a .netrc file.
    """

    def __init__(self, endpoint: str, token: str) -> None:
        self.origin = urlsplit(endpoint)[:2]
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Returns the request, with the token if it goes to the hub itself."""
        if self.token and urlsplit(request.url or "")[:2] == self.origin:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Content:
    """Yields a file's bytes as they come, from `start` on."""

    def __init__(self, response: requests.Response, start: int) -> None:
        self.response = response
        self.start = start

    def __iter__(self) -> Iterator[bytes]:
        """Yields the bytes; raises HubUnreachableError when the connection breaks off.

        Bytes are passed on at once, however few, because the reader checks the time.
        """
        try:
            with self.response:
                while piece := self.response.raw.read1(PIECE_BYTES, True):
                    yield piece
        except urllib3.exceptions.HTTPError:
            raise HubUnreachableError(
                "The connection to the model hub broke off. What has come is kept: "
                "resume the download."
            ) from None


def is_hub_address(url: str, endpoint: str) -> bool:
    """Returns whether a redirect may lead to an address.

    It may lead to the endpoint's own origin, or by HTTPS to the hub's hosts. What
    counts is the address as requests will send it.
    """
    try:
        sent = sent_address(url)
        scheme, host, port = _origin(sent)
    except ValueError:
        return False
    if "\\" in url or "@" in urlsplit(sent).netloc:
        return False
    if (scheme, host, port) == _origin(endpoint):
        return True
    of_hub = host in HUB_HOSTS or host.endswith(tuple(f".{one}" for one in HUB_HOSTS))
    return scheme == "https" and of_hub and bool(HOST.fullmatch(host))


def sent_address(url: str) -> str:
    """Returns the address as requests will send it.

    It reads odd addresses differently from urlsplit. Raises ValueError for a text that
    is no address.
    """
    return requests.Request("GET", url).prepare().url or ""


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme)


def choose_files(siblings: list[dict[str, Any]]) -> list[HubFile]:
    """Returns the files of a repository from which a model is loaded, and no others.

    Names are matched as a whole, so no name leads out of the model's folder. Raises
    UserError if a needed file is missing.
    """
    by_name = {str(one.get("rfilename")): one for one in siblings}
    names = [name for name in by_name if SMALL_FILES.fullmatch(name)]
    shards = [name for name in by_name if SHARD.fullmatch(name)]
    if WEIGHTS in by_name:
        names.append(WEIGHTS)
    elif shards and INDEX in by_name:
        names += [INDEX, *shards]
    else:
        raise UserError(
            "It has no safetensors weights (model.safetensors), and others are not "
            "loaded, since they can run code. Choose a model that has them."
        )
    for needed in ("tokenizer.json", "config.json"):
        if needed not in names:
            raise UserError(f"It has no {needed}. Choose a model that has one.")
    files = [_hub_file(name, by_name[name]) for name in names]
    _check_sizes(files)
    # The small files come first, because they show most faults of a model.
    return sorted(files, key=lambda file: (file.size, file.name))


def _check_sizes(files: list[HubFile]) -> None:
    """Raises UserError for a large file that is read as a whole, as weights are not."""
    for file in files:
        if not file.name.endswith(WEIGHTS_ENDING) and file.size > MAX_TEXT_FILE_BYTES:
            raise UserError(
                f"Its {file.name} has {num_bytes(file.size)}, and "
                f"{num_bytes(MAX_TEXT_FILE_BYTES)} are the most that is read of such a "
                "file. Choose another model."
            )


def _hub_file(name: str, about: dict[str, Any]) -> HubFile:
    lfs = about.get("lfs")
    algorithm = "sha256" if lfs else "git-sha1"
    digest = str(lfs["sha256"] if lfs else about.get("blobId"))
    size = (lfs or about).get("size")
    if not DIGEST[algorithm].fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise UserError(
            f"The hub does not say how {name} can be checked, so it is not fetched. "
            "Check FINETUNE_HUB_ENDPOINT."
        )
    return HubFile(name, size, algorithm, digest)


def licence_of(about: dict[str, Any]) -> str:
    """Returns the licence that a model's card names."""
    card = about.get("cardData") or {}
    licence = card.get("license_name") or card.get("license") or NOT_STATED
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence))
    return printable(str(licence))[:200]
