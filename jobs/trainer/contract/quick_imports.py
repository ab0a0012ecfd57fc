"""[contract] Imports large libraries without looking for garbage among what they make.

What a library makes while it is imported stays. Looking through it again and again
takes a fifth of the time that torch and transformers need.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Stops the collector within, and has it pass over what was made there."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
