"""What changes datasets. Everybody outside this package imports it from here."""

from datasets.services.api_files import delete_api_file, take_api_file
from datasets.services.drafts import (
    change_example,
    change_weight,
    discard_draft,
    rejoin_version,
    save_draft,
    undo_change,
)
from datasets.services.imports import import_version, requeue_stale_imports
from datasets.services.reweighting import reweighted
from datasets.services.sets import delete_dataset, rename_dataset
from datasets.services.tables import choose_columns, opened_table
from datasets.services.uploads import import_dataset_file, remove_left_uploads

__all__ = [
    "change_example",
    "change_weight",
    "choose_columns",
    "delete_api_file",
    "delete_dataset",
    "discard_draft",
    "import_dataset_file",
    "import_version",
    "opened_table",
    "rejoin_version",
    "remove_left_uploads",
    "rename_dataset",
    "requeue_stale_imports",
    "reweighted",
    "save_draft",
    "take_api_file",
    "undo_change",
]
