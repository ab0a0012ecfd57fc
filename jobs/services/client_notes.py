"""Checks what clients write on their jobs: a suffix for the name, and metadata."""

import re
from collections.abc import Mapping

from finetune_site.common.errors import UserError
from finetune_site.common.parsing import is_text

MAX_SUFFIX_CHARACTERS = 64
MAX_METADATA_PAIRS = 16
MAX_KEY_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 512


def clean_suffix(suffix: str) -> str:
    """Returns the suffix with hyphens for what a model's name cannot hold.

    Colons divide the name into its parts, and slashes and spaces suit no address.
    Raises UserError if the suffix is too long or nothing of it is left.
    """
    if len(suffix) > MAX_SUFFIX_CHARACTERS:
        raise UserError(
            f"The suffix has {len(suffix)} characters; {MAX_SUFFIX_CHARACTERS} fit.",
            field="suffix",
        )
    clean = re.sub(r"[^\w.-]+", "-", suffix).strip("-")
    if suffix and not clean:
        raise UserError("Put a letter or a digit into the suffix.", field="suffix")
    return clean


def clean_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Returns the metadata. Raises UserError if it is too much, or no text."""
    if len(metadata) > MAX_METADATA_PAIRS:
        raise UserError(
            f"{len(metadata)} pairs of metadata are too many; "
            f"{MAX_METADATA_PAIRS} fit.",
            field="metadata",
        )
    for key, value in metadata.items():
        _check_length(f"The metadata key {key[:20]!r}", key, MAX_KEY_CHARACTERS)
        _check_length(f"The value of the metadata {key!r}", value, MAX_VALUE_CHARACTERS)
    return dict(metadata)


def _check_length(what: str, text: str, max_characters: int) -> None:
    if len(text) > max_characters:
        raise UserError(
            f"{what} has {len(text)} characters; {max_characters} fit.",
            field="metadata",
        )
    if not is_text(text):
        raise UserError(f"{what} holds a character that is no text.", field="metadata")
