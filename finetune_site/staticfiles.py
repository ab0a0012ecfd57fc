"""Serves single files out of installed packages, so that no copies are kept."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from django.contrib.staticfiles.finders import BaseFinder
from django.core.files.storage import FileSystemStorage

# Package → folder in it → the files that pages use.
USED = {
    ("plotly", "package_data"): ["plotly.min.js"],
    ("ninja", "static/ninja"): [
        "swagger-ui-bundle.js",
        "swagger-ui.css",
        # The style sheet names it, and cannot be collected without it.
        "swagger-ui.css.map",
    ],
}


class PackageFinder(BaseFinder):
    """Finds these files alone: their folders hold megabytes that nobody needs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.storages = {
            name: FileSystemStorage(location=Path(str(files(package))) / folder)
            for (package, folder), names in USED.items()
            for name in names
        }

    def check(self, **kwargs: Any) -> list[Any]:
        return []

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:
        if path not in self.storages:
            return []
        found = self.storages[path].path(path)
        return [found] if find_all else found

    def list(self, ignore_patterns: Any) -> Iterator[tuple[str, FileSystemStorage]]:
        yield from self.storages.items()
