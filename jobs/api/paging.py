"""Pages of lists. A client asks for the next page with the id of the last item."""

from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar

from django.db.models import Model, QuerySet
from ninja import Schema
from pydantic import Field

from jobs.api.errors import not_found

Item = TypeVar("Item")

MAX_LIMIT = 1000
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
Order = Literal["asc", "desc"]


class Page(Schema, Generic[Item]):
    object: Literal["list"] = "list"
    data: list[Item]
    # Always sent: without it clients would ask for further pages for ever.
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None


def page_of(
    rows: QuerySet[Any],
    show: Callable[[Any], dict[str, Any]],
    *,
    limit: int,
    after: str | None = None,
    order: Order = "desc",
) -> dict[str, Any]:
    """Returns one page of rows, the newest first unless `order` says otherwise.

    `after` is the uid of the row before the page. Raises ApiError when it is unknown.
    """
    if after is not None:
        last = find_by_uid(rows, after)
        rows = rows.filter(**{"pk__lt" if order == "desc" else "pk__gt": last.pk})
    rows = rows.order_by("-pk" if order == "desc" else "pk")
    found = list(rows[: limit + 1])
    return as_page([show(row) for row in found[:limit]], has_more=len(found) > limit)


def find_by_uid(rows: QuerySet[Any], after: str) -> Model:
    row = None if "\0" in after else rows.filter(uid=after).first()
    return row or not_found("item", after, param="after")


def as_page(items: list[dict[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    return {
        "object": "list",
        "data": items,
        "has_more": has_more,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
    }
