"""[contract] Tells whether a folder still holds the files that were read from it."""

import os
from contextlib import suppress
from pathlib import Path

# For each file its name, size, and the times of its last write and last change.
Stamp = tuple[tuple[str, int, int, int], ...]


def folder_stamp(folder: Path) -> Stamp:
    """Returns a value that changes with every file of the folder.

    The time of the last change cannot be set by copying, so that a file which took
    another's place is noticed even with the same size and time of writing. The stamp is
    empty when there is no such folder.
    """
    try:
        files = [(path.name, _stat(path)) for path in folder.iterdir()]
    except OSError:
        return ()
    return tuple(
        sorted((n, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in files if s)
    )


def _stat(path: Path) -> os.stat_result | None:
    """Returns what is known of a file: of a link that leads nowhere, what is known of
    the link; None if it has just gone.
    """
    try:
        return path.stat()
    except OSError:
        with suppress(OSError):
            return path.lstat()
    return None
