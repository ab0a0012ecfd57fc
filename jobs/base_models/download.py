"""[contract] Downloads a model's files into a folder, and goes on after a break.

A file is written as `*.part` and gets its name only once its digest is right, so a
killed download goes on where it was. Bytes are written to their places and not
appended, so two processes that fetch the same file do not spoil it.
"""

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from finetune_site.common.errors import UserError
from jobs.base_models.hub import Hub, HubFile, HubModel, HubUnreachableError
from jobs.trainer.contract.runfolder import sync_path

# The pauses before new tries, after connections that brought nothing. After the last of
# them the download fails.
PAUSES_SECONDS = (1.0, 2.0, 4.0)
# This much stays free on the disk, because jobs need it too.
SPARE_BYTES = 1_000_000_000
HASH_PIECE_BYTES = 1024 * 1024

# A function that is called often, with the number of bytes that are here and the name
# of the file that is being checked, or "". It may raise an exception to end the
# download.
Tick = Callable[[int, str], None]


class Download:
    """Downloads the files of one model. `tick` is called often; see Tick."""

    def __init__(self, hub: Hub, model: HubModel, folder: Path, tick: Tick) -> None:
        self.hub = hub
        self.model = model
        self.folder = folder
        self._tick = tick

    def run(self) -> None:
        """Downloads and checks all files; raises UserError if that is not possible."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._check_disk()
        for file in self.model.files:
            if not (self.folder / file.name).is_file():
                self._bring(file)
        sync_path(self.folder)

    @property
    def num_bytes(self) -> int:
        """The number of bytes that are here, in whole files and in parts."""
        return sum(self._size(file) for file in self.model.files)

    def _size(self, file: HubFile) -> int:
        if (self.folder / file.name).is_file():
            return file.size
        part = self._part(file)
        return part.stat().st_size if part.is_file() else 0

    def _part(self, file: HubFile) -> Path:
        return self.folder / f"{file.name}.part"

    def _check_disk(self) -> None:
        missing = self.model.num_bytes - self.num_bytes
        free = shutil.disk_usage(self.folder).free
        if missing and missing + SPARE_BYTES > free:
            raise UserError(
                f"The disk has {gigabytes(free)} free, and {gigabytes(missing)} are to "
                f"come; {gigabytes(SPARE_BYTES)} are left for jobs. Make room, then "
                "resume."
            )

    def _bring(self, file: HubFile) -> None:
        try:
            self._fetch(file)
            self._check(file)
        except FileNotFoundError:
            # Another task fetched the same file, and has given it its name.
            if not (self.folder / file.name).is_file():
                raise

    def _fetch(self, file: HubFile) -> None:
        """Fetches a file, and tries again as long as something comes."""
        pauses = list(PAUSES_SECONDS)
        self._part(file).touch()
        while (before := self._size(file)) < file.size:
            try:
                self._fetch_once(file, before)
            except HubUnreachableError:
                if self._size(file) > before:
                    pauses = list(PAUSES_SECONDS)
                elif not pauses:
                    raise
                else:
                    self._wait(pauses.pop(0))

    def _fetch_once(self, file: HubFile, start: int) -> None:
        content = self.hub.read(self.model, file, start)
        done = self.num_bytes - start + content.start
        with self._part(file).open("r+b") as part:
            if content.start < start:
                part.truncate(content.start)
            part.seek(content.start)
            for piece in content:
                part.write(piece)
                done += len(piece)
                self._tick(done, "")
                if part.tell() > file.size:
                    break
        if self._size(file) <= start:
            raise HubUnreachableError(f"The model hub sends nothing of {file.name}.")

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._tick(self.num_bytes, "")
            time.sleep(0.2)

    def _check(self, file: HubFile) -> None:
        """Gives a file its name if its digest is the one that the hub told."""
        part = self._part(file)
        if part.stat().st_size != file.size or self._digest(file) != file.digest:
            part.unlink()
            raise UserError(
                f"{file.name} did not arrive as the hub has it, so it was deleted. "
                "Resume to fetch it again; if that does not help, something on the way "
                "changes it."
            )
        sync_path(part)
        part.rename(self.folder / file.name)

    def _digest(self, file: HubFile) -> str:
        if file.algorithm == "sha256":
            digest = hashlib.sha256()
        else:
            digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
        done = self.num_bytes
        with self._part(file).open("rb") as part:
            while piece := part.read(HASH_PIECE_BYTES):
                digest.update(piece)
                self._tick(done, file.name)
        return digest.hexdigest()


def gigabytes(number: int) -> str:
    """Returns a number of bytes in words, such as "1.2 GB"."""
    return f"{number / 1e9:,.1f}\u00a0GB"
