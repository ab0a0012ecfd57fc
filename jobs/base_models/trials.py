"""[contract] Remembers which model folders were tried, and what came of it.

That a model trains and answers shows only when it does so once, which takes a process
with torch some seconds (jobs/trainer/model_trial.py). Results lie beside the folders.
"""

import hashlib
import json
from pathlib import Path

from jobs.trainer.contract.folder_stamp import Stamp, folder_stamp
from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.contract.runfolder import write_json

# It begins with a full stop, so it is taken for no model.
TRIALS = ".trials"


def trial_result(folder: Path, stamp: Stamp) -> str | None:
    """Returns what is wrong with a folder's files as they are now, or "".

    None means that these files were not tried yet. Models that ship need no trial.
    """
    if folder.parent == SHIPPED:
        return ""
    try:
        kept = json.loads(_file_of(folder).read_bytes())
        return str(kept["fault"]) if kept["files"] == _digest(stamp) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_tried(folder: Path) -> bool:
    """Returns whether the folder's files, as they are now, were tried."""
    return trial_result(folder, folder_stamp(folder)) is not None


def keep_result(folder: Path, stamp: Stamp, fault: str) -> None:
    """Notes what came of the trial of the files that had this stamp."""
    file = _file_of(folder)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    write_json(file, {"files": _digest(stamp), "fault": fault})


def _file_of(folder: Path) -> Path:
    return folder.parent / TRIALS / f"{folder.name}.json"


def _digest(stamp: Stamp) -> str:
    return hashlib.sha256(json.dumps(stamp).encode(errors="replace")).hexdigest()
