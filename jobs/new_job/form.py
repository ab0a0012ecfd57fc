"""The form of a new job: strings in, a `NewJob` out."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet

from datasets.models import DatasetVersion
from finetune_site.common import wording
from finetune_site.common.forms import ServiceForm, number_field
from finetune_site.common.parsing import small_int
from jobs.engines.registry import LOCAL, engine_titles, remote_names
from jobs.models import Job, Snapshot
from jobs.new_job.creation import NewJob
from jobs.selectors.base_models import base_models, models_dir
from jobs.trainer.contract.settings import SETTINGS, JobSettings, Setting

# What the radio of the base models says when a snapshot is chosen instead.
SNAPSHOT = "snapshot"


class LinesWidget(forms.Textarea):
    """A list of text boxes that share one name, one for each line."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        values = data.getlist(name) if hasattr(data, "getlist") else data.get(name)
        return list(values or [])


class PromptsField(forms.Field):
    """A list of prompts. Empty lines are left out; white space in others is kept."""

    widget = LinesWidget

    def to_python(self, value: Any) -> list[str]:
        lines = [line.replace("\r\n", "\n") for line in value or []]
        return [line for line in lines if line.strip()]


def field_of(setting: Setting) -> forms.Field:
    """Returns the field of the form that takes a setting."""
    if setting.choices:
        return forms.ChoiceField(
            label=setting.label,
            choices=list(setting.choices.items()),
            widget=forms.RadioSelect,
            help_text=setting.help,
        )
    decimal = forms.NumberInput(attrs={"step": "any", "inputmode": "decimal"})
    return number_field(
        setting.label,
        setting.low,
        setting.high,
        setting.help,
        field=forms.IntegerField if setting.is_whole else forms.FloatField,
        widget=forms.NumberInput if setting.is_whole else decimal,
        message=setting.refusal,
        required=not setting.is_optional,
        initial=setting.default if setting.is_optional else None,
    )


class VersionField(forms.ModelChoiceField):
    def label_from_instance(self, obj: DatasetVersion) -> str:
        return f"{obj} ({wording.counted(obj.num_examples, 'example')})"


class SnapshotField(forms.ModelChoiceField):
    def label_from_instance(self, obj: Snapshot) -> str:
        best = ", best" if obj.best else ""
        return f"{obj.job.name}, step {obj.step:,}{best}"


@dataclass(frozen=True)
class ShownSetting:
    """A setting as the page draws it."""

    bound: forms.BoundField
    unit: str
    # An anchor on the page Help.
    topic: str


class JobForm(ServiceForm):
    """The form of a new job, with a field for every setting of `SETTINGS`.

    Fields bear the names of Job's columns, so that a service's error finds its field.
    """

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
    prompts = PromptsField(label="Watched prompts", required=False)
    name = forms.CharField(
        label="Name",
        required=False,
        max_length=120,
        help_text="So that the team knows it again.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields |= {one.name: field_of(one) for one in SETTINGS.values()}
        self._field("engine").choices = list(engine_titles().items())
        versions = selectable_versions(self._chosen_versions())
        for name in ("dataset_version", "validation_version"):
            self._field(name).queryset = versions
        self._field("parent_snapshot").queryset = Snapshot.objects.select_related("job")
        choices = [(model.name, model.name) for model in base_models()]
        self._field("base_model").choices = [*choices, (SNAPSHOT, "A snapshot")]

    def _field(self, name: str) -> Any:
        return self.fields[name]

    def _chosen_versions(self) -> list[int]:
        """Returns the keys of chosen versions. A link may choose an older one."""
        chosen = [self["dataset_version"].value(), self["validation_version"].value()]
        values = [small_int(str(getattr(value, "pk", value))) for value in chosen]
        return [value for value in values if value]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        for one in SETTINGS.values():
            if one.is_optional and data.get(one.name) is None:
                data[one.name] = one.default
        # Browsers send it only where there is an engine elsewhere.
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

    def asked_for(self) -> NewJob:
        """Returns the job that a valid form asks for."""
        values = dict(self.cleaned_data)
        chosen = {name: values.pop(name) for name in SETTINGS}
        return NewJob(**values, settings=JobSettings(**chosen))

    @property
    def settings(self) -> dict[str, list[ShownSetting]]:
        """The fields of settings by the section that shows them."""
        sections: dict[str, list[ShownSetting]] = defaultdict(list)
        for one in SETTINGS.values():
            shown = ShownSetting(self[one.name], one.unit, one.topic)
            sections[one.section].append(shown)
        return sections

    @property
    def has_hidden_errors(self) -> bool:
        """Whether a setting under "More settings" has an error, so that it opens."""
        return any(shown.bound.errors for shown in self.settings["more"])

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
        """The cards of the base models whose files are on this machine."""
        chosen = self["base_model"].value()
        return [
            {"model": model, "chosen": model.name == chosen}
            for model in base_models()
            if model.is_ready(models_dir())
        ]

    @property
    def prompt_lines(self) -> list[str]:
        """The prompts that were typed, or one empty line to type into."""
        lines = self["prompts"].value() or []
        return list(lines) or [""]


def selectable_versions(chosen: list[int]) -> QuerySet[DatasetVersion]:
    """Returns the newest ready version of every dataset, and the `chosen` ones."""
    ready = DatasetVersion.objects.filter(status=DatasetVersion.Status.READY)
    newer = ready.filter(dataset=OuterRef("dataset"), number__gt=OuterRef("number"))
    wanted = ready.filter(~Exists(newer) | Q(pk__in=chosen))
    return wanted.select_related("dataset").order_by("-created_at")
