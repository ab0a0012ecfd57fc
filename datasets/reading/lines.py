"""Splits a file of any size into blocks of whole lines, in constant memory."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from finetune_site.common.errors import UserError

# Blocks of 64 KiB stay in a core's cache, and are a fifth faster than those of 1 MiB.
BLOCK_BYTES = 64 * 1024
# A page of examples has to fit into memory.
MAX_EXAMPLE_BYTES = 16 * 1024 * 1024

LINE_END = re.compile(rb"\r\n?|\n")
UTF8_MARK = b"\xef\xbb\xbf"
UTF8_ASKED = "save it with the encoding UTF-8"
# How files begin, and what they are. UTF-16 may lack a mark: its first letters show it.
OTHER_KINDS = {
    rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff": f"UTF-32 text; {UTF8_ASKED}",
    rb"\xff\xfe|\xfe\xff|[^\x00]\x00[^\x00]\x00|\x00[^\x00]\x00[^\x00]": (
        f"UTF-16 text; {UTF8_ASKED}"
    ),
    rb"PK\x03\x04": "a zip or Office file; unpack it or save it as plain text",
    rb"\x1f\x8b": "compressed; unpack it",
    rb"%PDF": "a PDF; save its text as a .txt file",
    rb"\{\s*[\r\n]\s*\"": (
        "JSON over many lines; write each example on one line of its own"
    ),
}
# A list of objects in one line, or with a line for each of them.
LIST = re.compile(rb"\s*\[\s*\{(?![^\r\n]*\}\s*\]\s*[\r\n]+\s*\[)")
JSON_LIST = (
    "one JSON list; write each example on a line of its own, without brackets around "
    "all and commas between"
)
# So much of a file shows its kind.
HEAD_BYTES = 1024


@dataclass(frozen=True)
class Block:
    """Whole lines. `done` is how far into the file they reach, in bytes.

    `first_line` is the number of the first line, which counts from 1. Each line of
    `text` ends with a line feed.
    """

    first_line: int
    text: bytes
    done: int
    # The block is the beginning of one line longer than MAX_EXAMPLE_BYTES.
    too_long: bool = False

    @property
    def lines(self) -> list[bytes]:
        """The lines without their ends."""
        return self.text.removesuffix(b"\n").split(b"\n")


def check_kind(path: Path, then: str = "upload it again") -> None:
    """Raises UserError if the file is plainly no UTF-8 text, or one JSON value.

    `then` completes the message: what to do once the file is mended.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES).removeprefix(UTF8_MARK)
        kinds = [kind for how, kind in OTHER_KINDS.items() if re.match(how, head)]
        if not kinds and LIST.match(head) and _ends_with(file, b"]"):
            kinds = [JSON_LIST]
    if kinds:
        raise UserError(f"The file is {kinds[0]}, then {then}.", field="file")


def _ends_with(file: BinaryIO, mark: bytes) -> bool:
    """Returns whether a file has this mark at its end, white space aside."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - HEAD_BYTES))
    return file.read().rstrip().endswith(mark)


def read_blocks(path: Path) -> Iterator[Block]:
    """Yields the blocks of a file, whose lines end with LF, CR LF or CR alone."""
    line, done, rest = 1, 0, b""
    with path.open("rb") as file:
        while data := _read(file):
            if done == 0:
                data = data.removeprefix(UTF8_MARK)
            done = file.tell()
            end = max(data.rfind(b"\n"), data.rfind(b"\r"))
            if end >= 0:
                text = _with_line_feeds(rest + data[: end + 1])
                yield Block(line, text, done)
                line += text.count(b"\n")
                rest = data[end + 1 :]
                continue
            rest += data
            if len(rest) > MAX_EXAMPLE_BYTES:
                _skip_line(file)
                yield Block(line, rest[:200] + b"\n", file.tell(), too_long=True)
                line, rest = line + 1, b""
    if rest:
        yield Block(line, rest + b"\n", done)


def _read(file: BinaryIO) -> bytes:
    """Returns the next bytes. They never end between the two of a CR LF."""
    data = file.read(BLOCK_BYTES)
    return data + file.read(1) if data.endswith(b"\r") else data


def _skip_line(file: BinaryIO) -> None:
    while data := _read(file):
        if found := LINE_END.search(data):
            file.seek(found.end() - len(data), os.SEEK_CUR)
            return


def _with_line_feeds(text: bytes) -> bytes:
    return LINE_END.sub(b"\n", text) if b"\r" in text else text
