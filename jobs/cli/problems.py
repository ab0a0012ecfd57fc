"""The errors of the command line, with their words and exit codes."""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes, which `--help` lists. A job ends with 0 only if it succeeded."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    SERVER = 4
    # The code of programs that Ctrl-C ended, by the custom of shells. The job goes on.
    INTERRUPTED = 130


class Problem(Exception):
    """An error for people. Its text says what happened, why, and what to do."""

    def __init__(self, message: str, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Refusal(Problem):
    """The server understood, and said no. To ask again would not help.

    `param` and `code` are those of the API's error, if it has them.
    """

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
    """The server did not answer, or said "later". To ask again may help.

    `retry_after` is in how many seconds; None: the server did not say "later".
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, Exit.SERVER)
        self.retry_after = retry_after
