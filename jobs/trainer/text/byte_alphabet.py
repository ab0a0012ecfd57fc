"""[contract] How vocabularies write bytes: as letters of an alphabet, or by number.

A byte-level vocabulary writes each byte as one printable character. Source: the
function bytes_to_unicode in encoder.py of openai/gpt-2.
"""

import re

# A vocabulary without a letter for each byte names single bytes so.
NUMBERED_BYTE = re.compile("<0x([0-9A-F]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """Printable Latin-1 bytes stand for themselves, the others for 256 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    shifted = {chr(0x100 + place): byte for place, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | shifted


BYTE_ALPHABET = _byte_alphabet()


def lettered_bytes(entry: str) -> bytes | None:
    """Returns the bytes that a vocabulary's entry spells letter by letter.

    None: it holds a character outside the alphabet, as names of control tokens may.
    """
    try:
        return bytes(BYTE_ALPHABET[letter] for letter in entry)
    except KeyError:
        return None


def numbered_byte(entry: str) -> bytes | None:
    """Returns the byte that an entry such as `<0x0A>` names; None for other entries."""
    named = NUMBERED_BYTE.fullmatch(entry)
    return bytes.fromhex(named[1]) if named else None
