"""Splits a file of any size into blocks of whole lines, in constant memory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from finetune_site.common.errors import UserError

# Blocks of 64 KiB stay in a core's cache, and are a fifth faster than those of 1 MiB.
BLOCK_BYTES = 64 * 1024
# A page of examples has to fit into memory.
MAX_EXAMPLE_BYTES = 16 * 1024 * 1024

UTF8_MARK = b"\xef\xbb\xbf"
OTHER_KINDS = {
    b"\xff\xfe": "UTF-16 text; save it with the encoding UTF-8",
    b"\xfe\xff": "UTF-16 text; save it with the encoding UTF-8",
    b"PK\x03\x04": "a zip or Office file; unpack it or save it as plain text",
    b"\x1f\x8b": "compressed; unpack it",
    b"%PDF": "a PDF; save its text as a .txt file",
}


@dataclass(frozen=True)
class Block:
    """Whole lines without their ends. `done` is how far into the file they reach.

    `first_line` is the number of the first line, which counts from 1; `done` is in
    bytes.
    """

    first_line: int
    lines: list[bytes]
    done: int
    # The block is the beginning of one line longer than MAX_EXAMPLE_BYTES.
    too_long: bool = False


def check_kind(path: Path, then: str = "upload it again") -> None:
    """Raises UserError if the file is plainly no UTF-8 text.

    `then` completes the message: what to do once the file is mended.
    """
    with path.open("rb") as file:
        head = file.read(4)
    for mark, kind in OTHER_KINDS.items():
        if head.startswith(mark):
            raise UserError(f"The file is {kind}, then {then}.", field="file")


def read_blocks(path: Path) -> Iterator[Block]:
    """Yields the blocks of a file. Windows line ends become plain ones."""
    line, done, rest = 1, 0, b""
    with path.open("rb") as file:
        while data := file.read(BLOCK_BYTES):
            if done == 0:
                data = data.removeprefix(UTF8_MARK)
            done = file.tell()
            end = data.rfind(b"\n")
            if end >= 0:
                lines = _split(rest + data[:end])
                yield Block(line, lines, done)
                line += len(lines)
                rest = data[end + 1 :]
                continue
            rest += data
            if len(rest) > MAX_EXAMPLE_BYTES:
                _skip_line(file)
                yield Block(line, [rest[:200]], file.tell(), too_long=True)
                line, rest = line + 1, b""
    if rest:
        yield Block(line, _split(rest), done)


def _skip_line(file: BinaryIO) -> None:
    while data := file.read(BLOCK_BYTES):
        end = data.find(b"\n")
        if end >= 0:
            file.seek(end + 1 - len(data), os.SEEK_CUR)
            return


def _split(data: bytes) -> list[bytes]:
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").removesuffix(b"\r")
    return data.split(b"\n")
