"""Filters lists by `?metadata[key]=value`."""

import re
from collections.abc import Mapping
from typing import Any

from django.db.models import BooleanField, F, Func, QuerySet, Value

from finetune_site.common.parsing import is_text
from jobs.models import Job

ASKED = re.compile(r"metadata\[(.*)\]", re.DOTALL)
PARAMETER = {
    "name": "metadata",
    "in": "query",
    "description": "Only jobs with these metadata: metadata[key]=value.",
    "style": "deepObject",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}


class HasPair(Func):
    """The SQL expression that tells whether a JSON object of texts holds a pair.

    A JSON path will not do: not every database finds a key with quotation marks by it.
    """

    output_field = BooleanField()

    def as_sql(self, compiler: Any, connection: Any, *more: Any, **context: Any) -> Any:
        pairs = "jsonb_each_text" if connection.vendor == "postgresql" else "json_each"
        sources = [compiler.compile(one) for one in self.get_source_expressions()]
        (metadata, _), (key, key_is), (value, value_is) = sources
        found = f"SELECT 1 FROM {pairs}({metadata}) AS pair"  # noqa: S608  all compiled
        where = f"pair.key = {key} AND pair.value = {value}"
        return f"EXISTS ({found} WHERE {where})", (*key_is, *value_is)


def with_metadata(jobs: QuerySet[Job], query: Mapping[str, str]) -> QuerySet[Job]:
    """Returns the jobs that have all metadata which the query asks for."""
    for name, value in query.items():
        asked = ASKED.fullmatch(name)
        if not asked:
            continue
        if not is_text(asked[1] + value):
            return jobs.none()
        jobs = jobs.filter(HasPair(F("metadata"), Value(asked[1]), Value(value)))
    return jobs
