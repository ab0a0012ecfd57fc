"""[torch] Recognises errors that a full memory causes."""

import torch

# An allocation that fails on a CPU raises a plain RuntimeError with one of these texts.
OUT_OF_MEMORY_WORDS = (
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an allocation failed, on a CPU or on a GPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
