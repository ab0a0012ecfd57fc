"""Reads values from addresses, headers and hidden fields."""

MAX_DIGITS = 15


def small_int(text: str) -> int | None:
    """Returns the number, or None for text that is no number or has too many digits.

    Python refuses to read thousands of digits, and databases to look for twenty.
    """
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None


def is_text(value: str) -> bool:
    """Returns whether databases can store it: JSON may hold zero characters and halves
    of characters, which they refuse.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
