"""The form of the playground."""

from typing import Any

from django import forms

from finetune_site.common.forms import number_field
from jobs.serving.request import (
    MAX_PROMPT_CHARACTERS,
    MAX_STOP_CHARACTERS,
    MAX_TEMPERATURE,
)

# Lower than the model server's own limits, which hold for clients of the API.
PLAYGROUND_MAX_TOKENS = 2048
PLAYGROUND_MAX_ANSWERS = 8
PLAYGROUND_MAX_STOPS = 4

DEFAULTS = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 64, "n": 1}


class StopField(forms.CharField):
    """Takes a stop text a line. `\\n` stands for a new line."""

    widget = forms.Textarea

    def clean(self, value: Any) -> list[str]:
        """Returns the stop texts. Raises ValidationError if one or all are too much."""
        text = super().clean(value).replace("\r\n", "\n")
        stops = [line.replace("\\n", "\n") for line in text.split("\n") if line]
        if len(stops) > PLAYGROUND_MAX_STOPS:
            raise forms.ValidationError(
                f"These are {len(stops)} texts; give {PLAYGROUND_MAX_STOPS} at most, "
                "one a line."
            )
        if any(len(stop) > MAX_STOP_CHARACTERS for stop in stops):
            raise forms.ValidationError(
                f"A text is longer than {MAX_STOP_CHARACTERS} characters; shorten it."
            )
        return stops


class PromptField(forms.CharField):
    """Takes text exactly as typed: the spaces at its end count."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> str:
        """Returns the text with plain line ends."""
        # Browsers send each line's end as two characters.
        return str(super().to_python(value)).replace("\r\n", "\n")


def _slider(step: float) -> forms.NumberInput:
    return forms.NumberInput(attrs={"type": "range", "step": step, "class": "slider"})


class PlaygroundForm(forms.Form):
    """Asks how to answer, with the fields of a completion request but the model."""

    prompt = PromptField(
        strip=False,
        required=False,
        max_length=MAX_PROMPT_CHARACTERS,
        widget=forms.Textarea(attrs={"rows": 1, "class": "area"}),
        error_messages={
            "max_length": f"The prompt is longer than {MAX_PROMPT_CHARACTERS:,} "
            "characters; the model reads its end only, so shorten the beginning."
        },
    )
    temperature = number_field(
        "Temperature",
        0,
        MAX_TEMPERATURE,
        field=forms.FloatField,
        widget=_slider(0.1),
    )
    top_p = number_field("Top p", 0, 1, field=forms.FloatField, widget=_slider(0.05))
    max_tokens = number_field("Max tokens", 1, PLAYGROUND_MAX_TOKENS)
    n = number_field("Answers from each", 1, PLAYGROUND_MAX_ANSWERS)
    stop = StopField(
        label="Stop at",
        required=False,
        strip=False,
        widget=forms.Textarea(
            attrs={"rows": 1, "placeholder": "a text, such as a full stop"}
        ),
        help_text="The answer ends before this text. "
        f"Up to {PLAYGROUND_MAX_STOPS}, one a line; \\n stands for a new line.",
    )
    seed = number_field(
        "Seed",
        0,
        2**31 - 1,
        "The same seed gives the same text.",
        required=False,
        widget=forms.NumberInput(attrs={"placeholder": "any"}),
    )
