"""Serves plotly.min.js from the installed plotly package, so that no copy is kept."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from django.contrib.staticfiles.finders import BaseFinder
from django.core.files.storage import FileSystemStorage

PLOTLY = "plotly.min.js"


class PlotlyFinder(BaseFinder):
    """Finds that one file; the folder it lies in holds megabytes nobody needs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.folder = Path(str(files("plotly"))) / "package_data"
        self.storage = FileSystemStorage(location=self.folder)

    def check(self, **kwargs: Any) -> list[Any]:
        return []

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:
        if path != PLOTLY:
            return []
        found = str(self.folder / PLOTLY)
        return [found] if find_all else found

    def list(self, ignore_patterns: Any) -> Iterator[tuple[str, FileSystemStorage]]:
        yield PLOTLY, self.storage
