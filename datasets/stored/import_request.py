"""What an import is asked to do: `request.json` in the new version's folder.

The file is on disk before the version's row exists. So whoever finds the row can do the
work, again and again, with the same result.
"""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from datasets.reading.plain_text import TextSplit
from jobs.trainer.contract.runfolder import sync_path


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What to make a version from: an upload, or its parent with other loss weights."""

    # An upload is jsonl, txt or table; a changed parent is draft or weights.
    kind: str
    # How the file's name ended, and how its columns are used: of a table.
    suffix: str = ""
    mapping: dict[str, Any] = field(default_factory=dict)
    text_split: str = TextSplit.PARAGRAPHS
    changes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last_change(self) -> int:
        """The id of the newest change of the parent's draft in the version, or 0."""
        return max((change["id"] for change in self.changes), default=0)

    def write(self, folder: Path) -> None:
        """Writes the request into the version's folder. It is on disk afterwards."""
        with (folder / "request.json").open("wb") as file:
            file.write(orjson.dumps(asdict(self)))
            file.flush()
            os.fsync(file.fileno())
        sync_path(folder)

    @classmethod
    def read(cls, folder: Path) -> "ImportRequest":
        """Reads the request from the version's folder."""
        return cls(**orjson.loads((folder / "request.json").read_bytes()))
