"""The form that adds a base model of the hub."""

from django import forms

from finetune_site.common.forms import ServiceForm


class ModelForm(ServiceForm):
    """Asks for a model, in the words that `add_model` uses in its errors."""

    hub_id = forms.CharField(
        label="Id on the hub",
        max_length=300,
        widget=forms.TextInput(
            attrs={
                "placeholder": "owner/model",
                "autocomplete": "off",
                "autocapitalize": "off",
                "spellcheck": "false",
            }
        ),
        error_messages={
            "required": "Write the model's id, for example Qwen/Qwen3-0.6B-Base."
        },
    )
    name = forms.CharField(
        label="Name",
        required=False,
        max_length=80,
        help_text="What the team calls it; the end of the id, if empty.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "off"}),
    )
