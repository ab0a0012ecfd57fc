"""What an import is asked to do: `request.json` in the new version's folder.

It is on disk before the version's row exists, so whoever finds the row can do the work,
again and again, with the same result.
"""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from datasets.plain_text import TextSplit
from jobs.trainer.contract.runfolder import sync_path


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """An upload, or changes of a parent's loss weights: its draft, or others."""

    # jsonl or txt; draft or weights.
    kind: str
    text_split: str = TextSplit.PARAGRAPHS
    changes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last_change(self) -> int:
        """Changes of the parent's draft up to this id are in the new version."""
        return max((change["id"] for change in self.changes), default=0)

    def write(self, folder: Path) -> None:
        with (folder / "request.json").open("wb") as file:
            file.write(orjson.dumps(asdict(self)))
            file.flush()
            os.fsync(file.fileno())
        sync_path(folder)

    @classmethod
    def read(cls, folder: Path) -> "ImportRequest":
        return cls(**orjson.loads((folder / "request.json").read_bytes()))
