"""Cuts what comes in pieces into lines."""


class LineCutter:
    """Cuts bytes into lines. Only a line feed ends one.

    Texts in JSON may hold the other characters at which a line can end: U+2028, U+2029,
    U+0085 and more. Libraries that cut text by `str.splitlines` break such texts.
    """

    def __init__(self) -> None:
        # The beginning of a line whose end has not come yet.
        self.rest = b""

    def push(self, piece: bytes) -> list[bytes]:
        """Takes more bytes; returns the lines that are whole now, without line ends."""
        *lines, self.rest = (self.rest + piece).split(b"\n")
        return lines
