"""Sends a local file, unless the site has it already."""

import hashlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from datasets.reading.batches import ImportBatch, read_jsonl
from datasets.reading.kinds import holds_json_lines
from datasets.reading.plain_text import TextSplit, read_text
from finetune_site.common.errors import UserError
from finetune_site.common.file_form import PURPOSE, FileForm, Progress
from jobs.cli.problems import Away, Exit, Problem
from jobs.cli.screen import Screen
from jobs.cli.server import Answer, Server

# After a lost answer a file is sent again with the same key, so it is there once.
ATTEMPTS = 4
POLL_SECONDS = 0.3
# Among how many of the newest files the same one is looked for.
MAX_FILES = 1000


def upload(server: Server, path: Path, progress: Progress) -> Answer:
    """Sends a file, and returns the API's file object.

    Raises Problem if it cannot be sent or the server refuses it.
    """
    form, key = FileForm(path, path.name, progress), secrets.token_hex(16)
    headers = {"Content-Type": form.content_type, "Idempotency-Key": key}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            sent = server.send("POST", "/files", data=form, headers=headers)
            return dict(sent.json())
        except Away as error:
            if attempt == ATTEMPTS:
                raise
            time.sleep(error.retry_after or attempt)
        except UserError as error:
            raise Problem(error.message) from None
    raise AssertionError("every attempt returns or raises")


def find_same(server: Server, path: Path) -> Answer | None:
    """Returns the file on the site with this name, size and examples, if any."""
    files = server.get("/files", purpose=PURPOSE, limit=MAX_FILES)["data"]
    looks = {"filename": path.name, "bytes": path.stat().st_size}
    alike = [file for file in files if looks.items() <= file.items()]
    if not alike:
        return None
    # Only now is it worth reading the whole file.
    digest = examples_sha256(path)
    same = (file for file in alike if digest and file.get("sha256") == digest)
    return next(same, None)


def examples_sha256(path: Path) -> str | None:
    """Returns the digest of the examples as the site writes them down.

    None: some of them cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for batch in read_batches(path):
            if batch.bad_lines:
                return None
            digest.update(batch.content())
    except UserError:
        return None
    return digest.hexdigest()


def read_batches(path: Path) -> Iterator[ImportBatch]:
    """Yields the examples of a file, as an import on the site reads them."""
    if path.suffix.lower() == ".txt" and not holds_json_lines(path):
        return read_text(path, TextSplit.PARAGRAPHS)
    return read_jsonl(path)


def wait_until_read(server: Server, file: Answer, screen: Screen) -> Answer:
    """Returns the file object once the site has read the file.

    Raises Problem if the site cannot read it.
    """
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
