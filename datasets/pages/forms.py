"""Turns what people send into values for the services."""

from typing import Any

from django import forms
from django.conf import settings

from datasets.drafts.draft import LAST
from datasets.reading.plain_text import TextSplit
from finetune_site.common.forms import ServiceForm
from finetune_site.common.wording import num_bytes

SPLITS = [
    (TextSplit.PARAGRAPHS, "a paragraph"),
    (TextSplit.LINES, "a line"),
    (TextSplit.WHOLE, "all of it"),
]
# They are sent as words: a browser would send a line feed as a carriage return too.
JOINERS = [("", "as written"), ("space", "a space"), ("new-line", "a new line")]
JOINER_OF = {"space": " ", "new-line": "\n"}
RULES = [
    (0, "every first segment"),
    (1, "every second segment"),
    (LAST, "every last segment"),
]


class UploadForm(ServiceForm):
    """A file for a new dataset or a next version, and how to read it."""

    file = forms.FileField(
        label="File",
        # The service says better what to do about an empty one.
        allow_empty_file=True,
        error_messages={"required": "Choose a file."},
        widget=forms.FileInput(attrs={"accept": ".jsonl,.txt,.csv,.tsv,.xlsx"}),
    )
    name = forms.CharField(
        label="Name",
        max_length=120,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    note = forms.CharField(
        label="What changed?",
        max_length=200,
        required=False,
        help_text="Shown in the list of versions.",
    )
    text_split = forms.ChoiceField(
        label="An example of a .txt file is",
        choices=SPLITS,
        initial=TextSplit.PARAGRAPHS,
        widget=forms.RadioSelect,
        help_text="Paragraphs end at an empty line.",
    )
    joiner = forms.TypedChoiceField(
        label="Where two segments meet without white space, put",
        choices=JOINERS,
        coerce=JOINER_OF.__getitem__,
        required=False,
        initial="",
        widget=forms.RadioSelect,
        help_text="You can also decide this later, with the examples before you.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        most = num_bytes(settings.MAX_UPLOAD_BYTES)
        kinds = ".jsonl, .txt, .csv, .tsv or .xlsx"
        self.fields["file"].help_text = f"{kinds}, at most {most}."


class NameForm(forms.Form):
    """A new name for a dataset."""

    name = forms.CharField(
        label="Name",
        max_length=120,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class RuleForm(forms.Form):
    """A loss weight for one segment of every example."""

    segment = forms.TypedChoiceField(choices=RULES, coerce=int)
    weight = forms.FloatField(
        error_messages={"required": "Give a loss weight.", "invalid": "Give a number."}
    )


class SaveForm(forms.Form):
    """A note on the version that a draft becomes."""

    note = forms.CharField(max_length=200, required=False)


class RejoinForm(forms.Form):
    """What to put where two segments meet without white space."""

    joiner = forms.TypedChoiceField(choices=JOINERS[1:], coerce=JOINER_OF.__getitem__)


def numbers_of(texts: list[str]) -> list[float]:
    """Returns the numbers that were typed.

    What is no number becomes nan, which the service refuses in its own words.
    """
    return [_number(text) for text in texts]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
