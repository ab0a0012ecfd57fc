"""The error that keeps a build from starting or from going on."""


class BuildError(ValueError):
    """Says to the person who started a build what is wrong, where, and what to do."""
