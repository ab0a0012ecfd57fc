"""Errors that people are meant to read."""


class UserError(Exception):
    """Something that a person can put right. Its message is safe to show.

    Low code raises it, and each surface catches it in one place: a form shows it beside
    `field`, a page as a message, the API as its error body, a job as its status line.
    Pages lead to `link`, the path of the thing that is in the way.
    """

    def __init__(
        self, message: str, *, field: str | None = None, link: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.link = link


class TooLongError(UserError):
    """A prompt is longer than the model reads."""


class LaterError(UserError):
    """Nothing is wrong with what was asked; it works once something is ready again."""


class BusyError(LaterError):
    """There is too much to do at the moment."""
