"""Reads what the page of webhooks shows, and the form on it."""

from django import forms
from django.db.models import QuerySet

from finetune_site.common.forms import ServiceForm
from jobs.models import Delivery, Webhook

MAX_SHOWN_DELIVERIES = 20


class WebhookForm(ServiceForm):
    """Asks for an address that is told when a job ends."""

    # The field takes any text, since the service says what is wrong with an address.
    url = forms.CharField(
        label="Address",
        max_length=500,
        widget=forms.TextInput(attrs={"inputmode": "url", "placeholder": "https://"}),
        error_messages={"required": "Type the address that is to be told."},
    )
    allow_private = forms.BooleanField(
        label="It is in this site's own network",
        required=False,
        help_text="Such addresses are refused otherwise.",
    )


def list_webhooks() -> QuerySet[Webhook]:
    """Returns all webhooks, with the members who added them."""
    return Webhook.objects.select_related("created_by")


def list_deliveries() -> list[Delivery]:
    """Returns the newest deliveries of all webhooks."""
    newest = Delivery.objects.select_related("webhook", "job").order_by("-pk")
    return list(newest[:MAX_SHOWN_DELIVERIES])
