"""The forms on the page of engines."""

from django import forms

from finetune_site.common.forms import ServiceForm

PLAIN = {"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}


def key_field(label: str) -> forms.CharField:
    """Returns a field for an API key of the other server."""
    return forms.CharField(
        label=label,
        max_length=500,
        # A password field is never filled in again, not even after an error.
        widget=forms.PasswordInput(attrs={**PLAIN, "autocomplete": "new-password"}),
        help_text="Stored encrypted, and never shown again.",
        error_messages={"required": "Enter an API key of the other server."},
    )


class EngineForm(ServiceForm):
    """Asks for an engine, in the words that `add_engine` uses in its errors."""

    name = forms.CharField(
        label="Name",
        max_length=40,
        help_text="As people will choose it, for example gpu-lab.",
        widget=forms.TextInput(attrs=PLAIN),
        error_messages={"required": "Give it a name, for example gpu-lab."},
    )
    url = forms.CharField(
        label="Address",
        max_length=500,
        help_text="The base URL of its API. It ends in /v1.",
        widget=forms.TextInput(
            attrs={**PLAIN, "placeholder": "https://lab.example.org/v1"}
        ),
        error_messages={"required": "Enter its address, which ends in /v1."},
    )
    key = key_field("API key")
    allow_private = forms.BooleanField(
        label="It may be in a private network",
        required=False,
        help_text="Such as 10.0.0.5, or another port of this machine.",
    )


class KeyForm(forms.Form):
    """Asks for another API key of an engine."""

    key = key_field("Another API key")
