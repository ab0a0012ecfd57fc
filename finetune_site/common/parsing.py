"""Reads what stands in addresses, headers and hidden fields."""

MAX_DIGITS = 15


def small_int(text: str) -> int | None:
    """None for what is no number, and for one that no row or page could have.

    Python refuses to read thousands of digits, and databases to look for twenty.
    """
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None


def is_text(value: str) -> bool:
    """Whether databases take it: JSON may hold zeros and halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
