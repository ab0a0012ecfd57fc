"""Sends a local file, unless the site has it already."""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from datasets.batches import Batch, read_jsonl
from datasets.plain_text import TextSplit, read_text
from finetune_site.common.errors import UserError
from jobs.cli.problems import Away, Exit, Problem
from jobs.cli.screen import Screen
from jobs.cli.server import Answer, Server

PURPOSE = "fine-tune"
BLOCK_BYTES = 256 * 1024
# A file sent again after a lost answer carries the same key, so it is there once.
ATTEMPTS = 4
POLL_SECONDS = 0.3
# Newest files among which the same one is looked for.
MOST_FILES = 1000

Progress = Callable[[int, int], None]


class FileForm:
    """A form with a file in it, read from the disk as it is sent.

    With a length, so that the server can refuse what is too large before it comes.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path = path
        self.progress = progress
        self.boundary = secrets.token_hex(16)
        self.head = self._head()
        self.tail = f"\r\n--{self.boundary}--\r\n".encode()
        self.num_bytes = path.stat().st_size

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self.boundary}"

    def __len__(self) -> int:
        return len(self.head) + self.num_bytes + len(self.tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self.head
        done = 0
        with self.path.open("rb") as file:
            while done < self.num_bytes:
                block = file.read(min(BLOCK_BYTES, self.num_bytes - done))
                if not block:
                    raise Problem(f"{self.path} became shorter while it was sent.")
                yield block
                done += len(block)
                self.progress(done, self.num_bytes)
        yield self.tail

    def _head(self) -> bytes:
        name = self.path.name.encode("utf-8", "replace")
        # As browsers write it.
        for mark, code in ((b'"', b"%22"), (b"\r", b"%0D"), (b"\n", b"%0A")):
            name = name.replace(mark, code)
        begin = f"--{self.boundary}\r\nContent-Disposition: form-data; name=".encode()
        return (
            begin
            + f'"purpose"\r\n\r\n{PURPOSE}\r\n'.encode()
            + begin
            + b'"file"; filename="'
            + name
            + b'"\r\nContent-Type: application/octet-stream\r\n\r\n'
        )


def upload(server: Server, path: Path, progress: Progress) -> Answer:
    """The file object. Problem: it could not be sent, or the server refuses it."""
    form, key = FileForm(path, progress), secrets.token_hex(16)
    headers = {"Content-Type": form.content_type, "Idempotency-Key": key}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            sent = server.send("POST", "/files", data=form, headers=headers)
            return dict(sent.json())
        except Away as error:
            if attempt == ATTEMPTS:
                raise
            time.sleep(error.retry_after or attempt)
    raise AssertionError("every attempt returns or raises")


def find_same(server: Server, path: Path) -> Answer | None:
    """A file on the site of this name and size which holds the same examples."""
    files = server.get("/files", purpose=PURPOSE, limit=MOST_FILES)["data"]
    looks = {"filename": path.name, "bytes": path.stat().st_size}
    alike = [file for file in files if looks.items() <= file.items()]
    if not alike:
        return None
    # Only now is it worth reading the whole file.
    digest = examples_sha256(path)
    same = (file for file in alike if digest and file.get("sha256") == digest)
    return next(same, None)


def examples_sha256(path: Path) -> str | None:
    """Of the examples as the site writes them down; None: some cannot be read."""
    digest = hashlib.sha256()
    try:
        for batch in read_batches(path):
            if batch.problems:
                return None
            if batch.lines:
                digest.update(b"\n".join(batch.lines) + b"\n")
    except UserError:
        return None
    return digest.hexdigest()


def read_batches(
    path: Path, *, joiner: str = "", text_split: str = TextSplit.PARAGRAPHS
) -> Iterator[Batch]:
    """The examples of a file, as an import on the site reads them."""
    if path.suffix.lower() == ".txt":
        return read_text(path, text_split)
    return read_jsonl(path, joiner)


def wait_until_read(server: Server, file: Answer, screen: Screen) -> Answer:
    """The file object once the site has read the file. Problem: it holds nothing."""
    while file.get("status") == "uploaded":
        screen.wait(f"The site reads {file.get('filename')}")
        time.sleep(POLL_SECONDS)
        file = server.get(f"/files/{file['id']}")
    screen.clear()
    if file.get("status") == "error":
        name = file.get("filename")
        raise Problem(
            f"{name}: {file.get('status_details') or 'The site cannot read it.'}\n"
            f"Check it with: openai-ft prepare {name}",
            Exit.SERVER,
        )
    return file
