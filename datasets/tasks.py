"""What the worker does for datasets. A task takes an id and may run twice."""

from datasets import services
from datasets.signals import import_ended


def import_version(version_id: int) -> None:
    """Imports a version, says so to whoever listens, and clears up."""
    services.import_version(version_id=version_id)
    import_ended.send(sender=None, version_id=version_id)
    services.remove_left_uploads()
