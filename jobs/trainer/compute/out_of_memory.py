"""[torch] Tells errors that a full memory causes from all others."""

import torch

# A CPU allocation that fails says so in its message only.
OUT_OF_MEMORY_WORDS = (
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns True for an allocation that failed, on a CPU or on a GPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
