"""What goes wrong, in words, and the exit code it ends with."""

from enum import IntEnum


class Exit(IntEnum):
    """Of a job, only one that succeeded is 0. `--help` lists them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    SERVER = 4
    # What shells say of a program that Ctrl-C ended; the job goes on.
    INTERRUPTED = 130


class Problem(Exception):
    """Its text says what happened, why, and what to do."""

    def __init__(self, message: str, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Refusal(Problem):
    """The server understood, and said no. Asking again would not help."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, Exit.SERVER)
        self.status = status
        self.param = param
        self.code = code


class Away(Problem):
    """No answer, or "later". Asking again may help."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, Exit.SERVER)
        self.retry_after = retry_after
