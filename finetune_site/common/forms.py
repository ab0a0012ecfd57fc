"""What the forms of several pages have in common."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.utils.html import format_html

from finetune_site.common.errors import UserError


def with_link(error: UserError) -> str:
    """Returns the error's message for a page, with a link to what is in the way."""
    if not error.link:
        return error.message
    return format_html('{} <a href="{}">Open it</a>', error.message, error.link)


class ServiceForm(forms.Form):
    """A form whose values go to a service, which may still refuse them.

    Its field names are the argument names that the service gives in its errors. `links`
    has by field the path of the thing that is in the way.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.links: dict[str, str] = {}

    def add_user_error(self, error: UserError) -> None:
        """Shows the error beside its field, or above the form if it has no field."""
        field = error.field if error.field in self.fields else None
        self.add_error(field, error.message)
        if field and error.link:
            self.links[field] = error.link


def number_field(
    label: str,
    low: float,
    high: float,
    help_text: str = "",
    *,
    field: Callable[..., forms.IntegerField] = forms.IntegerField,
    message: str = "",
    **more: Any,
) -> forms.IntegerField:
    """Returns a field for a number from `low` to `high`, both included.

    One message, which names the limits, tells everything that can be wrong with it;
    `message` stands in for it.
    `field` is `IntegerField` or `FloatField`; `more` goes to the field as it is.
    """
    kind = "whole number" if field is forms.IntegerField else "number"
    limits = f"{label} is a {kind} from {low:,} to {high:,}. Type one of these."
    codes = ("required", "invalid", "min_value", "max_value")
    return field(
        label=label,
        min_value=low,
        max_value=high,
        help_text=help_text,
        error_messages=dict.fromkeys(codes, message or limits),
        **more,
    )
