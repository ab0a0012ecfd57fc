"""The fields of requests and answers that are made from the table of settings."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar

from ninja import Schema
from pydantic import Field, create_model

from jobs.api.fields import AUTO, Between
from jobs.trainer.contract.settings import Setting

Kind = TypeVar("Kind", bound=type[Schema])


def with_settings(settings: Iterable[Setting]) -> Callable[[Kind], Kind]:
    """Returns a class decorator that adds an optional field for each setting.

    The fields bear the settings' names in the API and keep to their limits.
    """
    fields = {one.api_name: _request_field(one) for one in settings}
    return lambda schema: _extended(schema, fields)


def with_used_settings(settings: Iterable[Setting]) -> Callable[[Kind], Kind]:
    """Returns a class decorator that adds a field for each setting's value.

    Settings that the site chooses are `auto` until it has done so.
    """
    fields = {one.api_name: (_used_type(one), ...) for one in settings}
    return lambda schema: _extended(schema, fields)


def _extended(schema: Kind, fields: dict[str, Any]) -> Kind:
    made: Any = create_model(
        schema.__name__, __base__=schema, __module__=schema.__module__, **fields
    )
    made.__doc__ = schema.__doc__
    return made


def _request_field(one: Setting) -> Any:
    limits = Between(one.low, one.high, whole=one.is_whole, auto=one.takes_auto)
    return Annotated[Any, limits], Field(None, description=one.api_help or None)


def _used_type(one: Setting) -> Any:
    kind: Any = int if one.is_whole else float
    if one.choices:
        kind = Literal[tuple(one.choices)]
    return kind | Literal[AUTO] if one.is_suggested else kind
