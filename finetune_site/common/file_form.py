"""Sends a file in a multipart form, in constant memory."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from urllib3 import encode_multipart_formdata

from finetune_site.common.errors import UserError

BLOCK_BYTES = 256 * 1024
PURPOSE = "fine-tune"

# Called with the bytes of the file that were sent, and with all of them.
Progress = Callable[[int, int], None]


class FileForm:
    """The form of an upload, which `requests` takes as `data`.

    The file is read from the disk while it is sent, each time that the form is sent;
    requests itself would read the whole of it into memory. The length is known before,
    so that a server can refuse what is too large for it.
    """

    def __init__(self, path: Path, name: str, progress: Progress) -> None:
        self.path = path
        self.progress = progress
        self.num_bytes = path.stat().st_size
        # Names of files may hold bytes that are no text.
        name = name.encode("utf-8", "replace").decode()
        place = secrets.token_hex(16).encode()
        form, self.content_type = encode_multipart_formdata(
            {"purpose": PURPOSE, "file": (name, place, "application/octet-stream")}
        )
        self.head, self.tail = form.split(place)

    def __len__(self) -> int:
        return len(self.head) + self.num_bytes + len(self.tail)

    def __iter__(self) -> Iterator[bytes]:
        """Yields the bytes of the form. Raises UserError if the file became shorter."""
        yield self.head
        num_sent = 0
        with self.path.open("rb") as file:
            while num_sent < self.num_bytes:
                block = file.read(min(BLOCK_BYTES, self.num_bytes - num_sent))
                if not block:
                    raise UserError(f"{self.path} became shorter while it was sent.")
                yield block
                num_sent += len(block)
                self.progress(num_sent, self.num_bytes)
        yield self.tail
