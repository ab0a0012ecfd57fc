"""The addresses of datasets."""

from django.urls import path

from datasets.views import drafts, examples, sets, tables

urlpatterns = [
    path("", sets.datasets, name="datasets"),
    path("new/", sets.dataset_new, name="dataset-new"),
    # One dataset:
    path("<int:pk>/", examples.dataset, name="dataset"),
    path("<int:pk>/versions/", sets.dataset_versions, name="dataset-versions"),
    path("<int:pk>/report/", sets.dataset_report, name="dataset-report"),
    path("<int:pk>/progress.json", sets.dataset_progress, name="dataset-progress"),
    path("<int:pk>/upload/", sets.dataset_upload, name="dataset-upload"),
    path("<int:pk>/rename/", sets.dataset_rename, name="dataset-rename"),
    path("<int:pk>/delete/", sets.dataset_delete, name="dataset-delete"),
    # One of its versions, and the draft laid over it:
    path(
        "<int:pk>/versions/<int:number>/examples.jsonl",
        examples.dataset_download,
        name="dataset-download",
    ),
    path(
        "<int:pk>/versions/<int:number>/left-out.jsonl",
        sets.dataset_problems,
        name="dataset-problems",
    ),
    path(
        "<int:pk>/versions/<int:number>/columns/",
        tables.dataset_columns,
        name="dataset-columns",
    ),
    path(
        "<int:pk>/versions/<int:number>/rule/", drafts.dataset_rule, name="dataset-rule"
    ),
    path(
        "<int:pk>/versions/<int:number>/examples/<int:example>/",
        drafts.dataset_weights,
        name="dataset-weights",
    ),
    path(
        "<int:pk>/versions/<int:number>/undo/", drafts.dataset_undo, name="dataset-undo"
    ),
    path(
        "<int:pk>/versions/<int:number>/discard/",
        drafts.dataset_discard,
        name="dataset-discard",
    ),
    path(
        "<int:pk>/versions/<int:number>/save/", drafts.dataset_save, name="dataset-save"
    ),
    path(
        "<int:pk>/versions/<int:number>/rejoin/",
        drafts.dataset_rejoin,
        name="dataset-rejoin",
    ),
]
