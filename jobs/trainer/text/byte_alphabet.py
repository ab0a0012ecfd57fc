"""[contract] How vocabularies write bytes: as letters of an alphabet, or as numbers.

A byte-level vocabulary writes each byte as one printable character. Source: the
function bytes_to_unicode in encoder.py of openai/gpt-2.
"""

import re

# How the name begins that clients are told of a token that is no whole character.
BYTES = "bytes:"

# A vocabulary that has no letter for each byte writes a single byte in this way.
NUMBERED_BYTE = re.compile("<0x([0-9A-F]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """Returns the byte of each letter.

    A printable Latin-1 byte is written as its own character, and the other bytes as the
    characters from 256 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    shifted = {chr(0x100 + place): byte for place, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | shifted


BYTE_ALPHABET = _byte_alphabet()


def lettered_bytes(entry: str) -> bytes | None:
    """Returns the bytes that a vocabulary's entry spells letter by letter.

    Returns None if the entry holds a character outside the alphabet, as the name of a
    control token may.
    """
    try:
        return bytes(BYTE_ALPHABET[letter] for letter in entry)
    except KeyError:
        return None


def numbered_byte(entry: str) -> bytes | None:
    """Returns the byte that an entry such as `<0x0A>` names; None for other entries."""
    named = NUMBERED_BYTE.fullmatch(entry)
    return bytes.fromhex(named[1]) if named else None
