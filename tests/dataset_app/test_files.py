"""A version's files, as they are written."""

import os

from datasets.stored import files
from datasets.stored.files import ExamplesWriter


def test_never_much_waits_for_the_disk_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SYNC_BYTES", 1000)
    monkeypatch.setattr(files, "sync_path", lambda folder: None)
    synced = [0]
    monkeypatch.setattr(
        files.os, "fsync", lambda number: synced.append(os.fstat(number).st_size)
    )
    with ExamplesWriter(tmp_path / "examples.jsonl") as writer:
        for _ in range(100):
            writer.add(b"x" * 99 + b"\n")
        writer.publish()
    sizes = sorted(synced)
    assert sizes[-1] == 10_000
    gaps = [after - before for before, after in zip(sizes, sizes[1:], strict=False)]
    assert max(gaps) <= 1000
