"""The form of a new job: strings in, the arguments of `create_job` out."""

from typing import Any

from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet

from datasets.models import DatasetVersion
from finetune_site.common import wording
from finetune_site.common.errors import UserError
from finetune_site.common.parsing import small_int
from jobs.engines.registry import LOCAL, engine_titles, remote_names
from jobs.models import Job, Snapshot
from jobs.selectors.base_models import base_models, models_dir

# What the radio of the base models says when a snapshot is chosen instead.
SNAPSHOT = "snapshot"


class LinesWidget(forms.Textarea):
    """One text box a line, all of one name."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        values = data.getlist(name) if hasattr(data, "getlist") else data.get(name)
        return list(values or [])


class PromptsField(forms.Field):
    """A list of prompts. Empty lines are left out; white space within one counts."""

    widget = LinesWidget

    def to_python(self, value: Any) -> list[str]:
        lines = [line.replace("\r\n", "\n") for line in value or []]
        return [line for line in lines if line.strip()]


def whole(label: str, low: int, high: int, help_text: str = "") -> forms.IntegerField:
    message = f"{label} is a whole number from {low:,} to {high:,}. Type one of these."
    codes = ("required", "invalid", "min_value", "max_value")
    return forms.IntegerField(
        label=label,
        min_value=low,
        max_value=high,
        help_text=help_text,
        error_messages=dict.fromkeys(codes, message),
    )


class VersionField(forms.ModelChoiceField):
    def label_from_instance(self, obj: DatasetVersion) -> str:
        return f"{obj} ({wording.counted(obj.num_examples, 'example')})"


class SnapshotField(forms.ModelChoiceField):
    def label_from_instance(self, obj: Snapshot) -> str:
        best = ", best" if obj.best else ""
        return f"{obj.job.name}, step {obj.step:,}{best}"


SCALE_MESSAGE = "The scale is a number from 0.001 to 100; 1 is the model's own rate."


class JobForm(forms.Form):
    """Field names are those of Job, so that a service's error finds its field."""

    dataset_version = VersionField(
        label="Dataset",
        queryset=DatasetVersion.objects.none(),
        empty_label=None,
        error_messages={
            "required": "There is nothing to learn from yet. Choose a dataset.",
            "invalid_choice": "This dataset is gone or not ready. Choose another one.",
        },
    )
    validation_version = VersionField(
        label="Validation dataset",
        queryset=DatasetVersion.objects.none(),
        required=False,
        empty_label="None",
        help_text="Shows whether the model learns or only repeats.",
    )
    base_model = forms.ChoiceField(
        label="Start from",
        widget=forms.RadioSelect,
        error_messages={
            "required": "Choose what training starts from.",
            "invalid_choice": "This base model is not in the list. Choose another one.",
        },
    )
    parent_snapshot = SnapshotField(
        label="Snapshot",
        queryset=Snapshot.objects.none(),
        required=False,
        to_field_name="uid",
        empty_label="Choose a snapshot",
        error_messages={
            "invalid_choice": "This snapshot is gone. Choose another one.",
        },
    )
    engine = forms.ChoiceField(
        label="Engine",
        initial=LOCAL.name,
        help_text="Where the job runs and its snapshots are kept.",
        error_messages={
            "invalid_choice": "This engine was removed. Choose another one.",
        },
    )
    when_engine_away = forms.ChoiceField(
        label="When that engine is away",
        required=False,
        choices=[
            (Job.WhenEngineAway.WAIT.value, "Wait until it is back"),
            (Job.WhenEngineAway.FAIL.value, "Fail after two minutes"),
        ],
        initial=Job.WhenEngineAway.WAIT.value,
    )
    epochs = whole("Epochs", 1, 1000, "How often the model sees each example.")
    batch_size = whole("Batch size", 1, 4096, "More rows: fewer, calmer steps.")
    max_tokens = whole("Max tokens", 8, 131072, "Longer examples are cut into pieces.")
    learning_rate_scale = forms.FloatField(
        label="Learning-rate scale",
        min_value=0.001,
        max_value=100,
        help_text="1 is the model's own rate; small datasets like it gentler.",
        error_messages=dict.fromkeys(
            ("required", "invalid", "min_value", "max_value"), SCALE_MESSAGE
        ),
        widget=forms.NumberInput(attrs={"step": "any", "inputmode": "decimal"}),
    )
    method = forms.ChoiceField(
        label="What changes",
        choices=Job.Method.choices,
        widget=forms.RadioSelect,
        help_text="LoRA changes a small part: less memory, smaller snapshots.",
    )
    seed = whole("Seed", 0, 2**31 - 1, "The same seed gives the same losses.")
    prompts = PromptsField(label="Watched prompts", required=False)
    completions_every = whole("Completions every", 0, 1_000_000, "0 is never.")
    num_completions = whole("Number of completions", 1, 16)
    snapshots_every = whole("Snapshots every", 0, 1_000_000, "0 is only at the end.")
    early_stop = whole(
        "Stop early when validation stops improving",
        0,
        100,
        "After so many snapshots without a better validation loss; 0 is never.",
    )
    name = forms.CharField(
        label="Name",
        required=False,
        max_length=120,
        help_text="So that the team knows it again.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Cannot be set, and so is not sent, without a validation dataset.
        self._field("engine").choices = list(engine_titles().items())
        self._field("early_stop").required = False
        self._field("early_stop").initial = 0
        versions = selectable_versions(self._chosen_versions())
        for name in ("dataset_version", "validation_version"):
            self._field(name).queryset = versions
        self._field("parent_snapshot").queryset = Snapshot.objects.select_related("job")
        choices = [(model.name, model.name) for model in base_models()]
        self._field("base_model").choices = [*choices, (SNAPSHOT, "A snapshot")]

    def _field(self, name: str) -> Any:
        return self.fields[name]

    def _chosen_versions(self) -> list[int]:
        """Older versions than the newest can be chosen by a link, and stay so."""
        chosen = [self["dataset_version"].value(), self["validation_version"].value()]
        values = [small_int(str(getattr(value, "pk", value))) for value in chosen]
        return [value for value in values if value]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        data["early_stop"] = data.get("early_stop") or 0
        # Nor is this without an engine elsewhere.
        if not data.get("when_engine_away"):
            data["when_engine_away"] = Job.WhenEngineAway.WAIT.value
        if data.get("base_model") != SNAPSHOT:
            data["parent_snapshot"] = None
        elif parent := data.get("parent_snapshot"):
            data["base_model"] = parent.base_model
        elif "parent_snapshot" not in self.errors:
            self.add_error(
                "parent_snapshot", "Choose the snapshot to train further from."
            )
        return data

    def add_user_error(self, error: UserError) -> None:
        self.add_error(
            error.field if error.field in self.fields else None, error.message
        )

    @property
    def has_datasets(self) -> bool:
        return bool(self._field("dataset_version").queryset.exists())

    @property
    def remote_engines(self) -> list[str]:
        return remote_names()

    @property
    def num_snapshots(self) -> int:
        return int(self._field("parent_snapshot").queryset.count())

    @property
    def models(self) -> list[dict[str, Any]]:
        """The cards of base models: those whose files are there."""
        chosen = self["base_model"].value()
        return [
            {"model": model, "chosen": model.name == chosen}
            for model in base_models()
            if model.is_ready(models_dir())
        ]

    @property
    def prompt_lines(self) -> list[str]:
        """What was typed, and an empty line to type into."""
        lines = self["prompts"].value() or []
        return list(lines) or [""]


def selectable_versions(chosen: list[int]) -> QuerySet[DatasetVersion]:
    """The newest ready version of every dataset, and those that are chosen already."""
    ready = DatasetVersion.objects.filter(status=DatasetVersion.Status.READY)
    newer = ready.filter(dataset=OuterRef("dataset"), number__gt=OuterRef("number"))
    wanted = ready.filter(~Exists(newer) | Q(pk__in=chosen))
    return wanted.select_related("dataset").order_by("-created_at")
