"""[contract] The settings of a job that a person may choose, in one table.

Whatever takes, checks, shows or hands on a setting reads it here: the columns of a
job's row, the form and its plan, the API, `openai-ft`, engines elsewhere and the spec.
A new setting is a new field of `JobSettings`, a migration, and its use by the trainer.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

FULL, LORA = "full", "lora"

Value = int | float | str
# Where the form and the help of `openai-ft` show a setting.
Section = Literal["length", "rate", "method", "more", "watch"]
# Which object of the API holds it: that of OpenAI's hyperparameters, the job itself,
# or our own `settings`. In requests the last two are one.
Place = Literal["hyperparameters", "job", "settings"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known of one setting, wherever it appears."""

    # Its field in `JobSettings`, in a job's row, in the spec and in the form.
    name: str = ""
    default: Value
    # The limits of a number, both included.
    low: int | float = 0
    high: int | float = 0
    # What may be chosen, by the value, in words; empty for numbers.
    choices: Mapping[str, str] = dataclasses.field(default_factory=dict)

    # ----- on the form of a new job
    section: Section = "more"
    label: str
    help: str = ""
    # Stands behind the field.
    unit: str = ""
    # The anchor on the page Help; empty: Help says no more than the form.
    topic: str = ""
    # A value outside the limits is answered so; empty: in the words of all numbers.
    refusal: str = ""
    # Whether a form without it is taken, with the default.
    is_optional: bool = False
    # Whether the plan of a job, its steps and its memory, changes with it.
    shapes_plan: bool = False
    # Whether the site chooses it for a dataset when nobody else does.
    is_suggested: bool = False

    # ----- among the settings of a job that there is
    short_label: str = ""
    # How a value reads, with {value} as it is or {number} with separators and the unit.
    shown: str = "{number}"
    unit_word: str = ""
    # How the value 0 reads where it does not mean none of something.
    zero: str = ""

    # ----- in the API
    api_name: str = ""
    api_place: Place = "settings"
    api_help: str = ""
    # Whether a client may leave it to the site by the word "auto".
    takes_auto: bool = False

    # ----- as flags of `openai-ft`; without any it has none
    flags: tuple[str, ...] = ()
    flag_help: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.default, int)

    def allows(self, value: Any) -> bool:
        """Returns whether a value is of the right type and within the limits."""
        if self.choices:
            return isinstance(value, str) and value in self.choices
        kinds = (int,) if self.is_whole else (int, float)
        # Python takes True for 1.
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        return math.isfinite(value) and self.low <= value <= self.high

    @property
    def limits(self) -> str:
        """The values that are allowed, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kind = "a whole number" if self.is_whole else "a number"
        return f"{kind} from {self.low:,} to {self.high:,}"


def setting(**facts: Any) -> Any:
    """Returns a dataclass field that knows its `Setting`."""
    one = Setting(**facts)
    return dataclasses.field(default=one.default, metadata={"setting": one})


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """One value for each setting of a job."""

    method: str = setting(
        default=FULL,
        choices={FULL: "The whole model", LORA: "LoRA"},
        section="method",
        label="What changes",
        help="LoRA changes a small part: less memory, smaller snapshots.",
        topic="lora",
        shapes_plan=True,
        is_suggested=True,
    )
    epochs: int = setting(
        default=4,
        low=1,
        high=1000,
        section="length",
        label="Epochs",
        help="How often the model sees each example.",
        topic="epochs",
        shapes_plan=True,
        is_suggested=True,
        api_name="n_epochs",
        api_place="hyperparameters",
        takes_auto=True,
        flags=("--num-epochs",),
        flag_help="times it sees the data",
    )
    # Rows of `max_tokens` tokens a step.
    batch_size: int = setting(
        default=1,
        low=1,
        high=4096,
        section="length",
        label="Batch size",
        help="More rows: fewer, calmer steps.",
        unit="rows a step",
        topic="batch-size",
        shown="{number} a step",
        unit_word="row",
        shapes_plan=True,
        is_suggested=True,
        api_place="hyperparameters",
        api_help="Rows of max_tokens a step.",
        takes_auto=True,
        flags=("--batch-size",),
        flag_help="rows a step",
    )
    max_tokens: int = setting(
        default=256,
        low=8,
        high=131_072,
        section="length",
        label="Max tokens",
        help="Longer examples are cut into pieces.",
        unit="tokens a row",
        topic="max-tokens",
        shown="{number} a row",
        shapes_plan=True,
        is_suggested=True,
        api_help="Tokens a row. Longer examples are cut into pieces.",
        takes_auto=True,
        flags=("--max-tokens",),
        flag_help="tokens a row",
    )
    # Multiplies the base model's default rate.
    learning_rate_scale: float = setting(
        default=1.0,
        low=0.001,
        high=100,
        section="rate",
        label="Learning-rate scale",
        help="1 is the model's own rate; small datasets like it gentler.",
        unit="× the default",
        topic="learning-rate",
        refusal="The scale is a number from 0.001 to 100; 1 is the model's own rate.",
        shown="× {value:g}",
        is_suggested=True,
        api_name="learning_rate_multiplier",
        api_place="hyperparameters",
        takes_auto=True,
        flags=("-s", "--s"),
        flag_help="learning-rate scale: 1 is the model's own rate",
    )
    seed: int = setting(
        default=1,
        low=0,
        high=2**31 - 1,
        label="Seed",
        help="The same seed gives the same losses.",
        topic="seed",
        shown="{value}",
        shapes_plan=True,
        is_suggested=True,
        api_place="job",
    )
    # In steps; 0 = never. Completions are made before the first step, too.
    completions_every: int = setting(
        default=10,
        low=0,
        high=1_000_000,
        section="watch",
        label="Completions every",
        help="0 is never.",
        unit="steps",
        unit_word="step",
        zero="never",
        shapes_plan=True,
        is_suggested=True,
        api_help="Steps from one answer to the prompts to the next; 0 is never.",
        flags=("--completions-every",),
        flag_help="steps; 0 is never",
    )
    num_completions: int = setting(
        default=1,
        low=1,
        high=16,
        section="watch",
        label="Number of completions",
        unit="a prompt",
        shown="{number} a prompt",
        shapes_plan=True,
        is_suggested=True,
        api_help="Answers to each prompt.",
        flags=("--num-completions",),
        flag_help="answers a prompt",
    )
    # In steps; 0 = a last one only.
    snapshots_every: int = setting(
        default=20,
        low=0,
        high=1_000_000,
        section="watch",
        label="Snapshots every",
        help="0 is only at the end.",
        unit="steps",
        unit_word="step",
        zero="never",
        shapes_plan=True,
        is_suggested=True,
        api_help="Steps from one snapshot to the next; 0 is at the end only.",
        flags=("--snapshots-every",),
        flag_help="steps; 0 is at the end",
    )
    # Snapshots in a row without a better validation loss; 0 = never.
    early_stop: int = setting(
        default=0,
        low=0,
        high=100,
        label="Stop early when validation stops improving",
        help="After so many snapshots without a better validation loss; 0 is never.",
        unit="snapshots",
        topic="early-stop",
        # The form does not send it without a validation dataset.
        is_optional=True,
        short_label="Stop early",
        shown="after {number} without a better validation loss",
        unit_word="snapshot",
        zero="never",
        api_help=(
            "End after so many snapshots without a better validation loss; 0 is never."
        ),
    )


def _table() -> Iterator[Setting]:
    for column in dataclasses.fields(JobSettings):
        one: Setting = column.metadata["setting"]
        yield dataclasses.replace(
            one,
            name=column.name,
            short_label=one.short_label or one.label,
            api_name=one.api_name or column.name,
        )


SETTINGS = {one.name: one for one in _table()}
SUGGESTED = tuple(one.name for one in SETTINGS.values() if one.is_suggested)


def settings_of(source: object) -> JobSettings:
    """Returns the settings that an object has as attributes, as a job's row has."""
    return JobSettings(**{name: getattr(source, name) for name in SETTINGS})
