"""What keeps a build from starting or going on."""


class BuildError(ValueError):
    """The message is for whoever started it: what is wrong, where, what to do."""
