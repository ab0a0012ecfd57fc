"""Uploaded tables: what their columns become, before they are imported."""

import hashlib
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import orjson
from django.db import transaction

from datasets.models import ColumnChoice, DatasetVersion
from datasets.reading.cells import TableRow
from datasets.reading.mapping import Mapper, Mapping, guess
from datasets.reading.tables import Table, open_table
from datasets.services.versions import enqueue_import
from datasets.stored.import_request import ImportRequest
from finetune_site.common.errors import UserError
from finetune_site.team.models import Member
from finetune_site.team.services import record

Status = DatasetVersion.Status
# So many rows show what a table holds.
FIRST_ROWS = 20
NAMES_OF_PAIRS = {"prompt", "completion"}


@dataclass(frozen=True)
class OpenedTable:
    """A table with its first rows, and how its columns are used unless told."""

    table: Table
    rows: list[TableRow]
    mapping: Mapping
    # Whether somebody used columns of these names in this way before.
    is_remembered: bool


def table_request(
    version: DatasetVersion, suffix: str, *, may_wait: bool
) -> ImportRequest:
    """Returns the request for a table, and has the version wait for its columns.

    Where nobody can choose them, they have to be named prompt and completion. Raises
    UserError if they are not, or if the file cannot be read as a table.
    """
    table = open_table(version.upload_path, suffix)
    request = ImportRequest(kind="table", suffix=suffix)
    if may_wait:
        version.status = Status.COLUMNS
        return request
    names = {name.lower() for name in table.columns}
    if not names >= NAMES_OF_PAIRS:
        raise UserError(
            "The table has no columns named prompt and completion. Name them so, or "
            "upload the file on the page Datasets, where columns can be chosen.",
            field="file",
        )
    return replace(request, mapping=guess(table, []).as_json())


def opened_table(version: DatasetVersion, *, has_header: bool = True) -> OpenedTable:
    """Opens the table of a version that waits for its columns. Raises UserError."""
    table = _open(version, has_header)
    rows = list(islice(table.rows(), FIRST_ROWS))
    known = _remembered(table.columns)
    mapping = known or guess(table, rows)
    mapping = replace(mapping, has_header=has_header)
    return OpenedTable(table, rows, mapping, known is not None)


def choose_columns(
    *, member: Member, version: DatasetVersion, mapping: Mapping
) -> DatasetVersion:
    """Says how the columns of a table are used, and has it imported.

    Raises UserError if the mapping does not fit the table.
    """
    table = _open(version, mapping.has_header)
    Mapper(mapping, table.columns)
    request = ImportRequest.read(version.folder)
    with transaction.atomic():
        waiting = DatasetVersion.objects.select_for_update().filter(
            pk=version.pk, status=Status.COLUMNS
        )
        if not waiting.exists():
            raise UserError("The columns of this table are chosen already.")
        replace(request, mapping=mapping.as_json()).write(version.folder)
        waiting.update(status=Status.IMPORTING)
        if mapping.has_header:
            ColumnChoice.objects.update_or_create(
                header=_digest(table.columns),
                defaults={"mapping": mapping.as_json(), "chosen_by": member},
            )
        record(member=member, action="dataset.choose_columns", subject=str(version))
        enqueue_import(version)
    version.status = Status.IMPORTING
    return version


def _open(version: DatasetVersion, has_header: bool) -> Table:
    if version.status != Status.COLUMNS:
        raise UserError("The columns of this table are chosen already.")
    suffix = ImportRequest.read(version.folder).suffix
    return open_table(Path(version.upload_path), suffix, has_header=has_header)


def _remembered(columns: list[str]) -> Mapping | None:
    found = ColumnChoice.objects.filter(header=_digest(columns)).first()
    if found is None:
        return None
    mapping = Mapping.from_json(found.mapping)
    try:
        Mapper(mapping, columns)
    except UserError:
        return None
    return mapping


def _digest(columns: list[str]) -> str:
    return hashlib.sha256(orjson.dumps(columns)).hexdigest()
