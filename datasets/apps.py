"""Names the app of datasets for Django."""

from django.apps import AppConfig


class DatasetsConfig(AppConfig):
    name = "datasets"
