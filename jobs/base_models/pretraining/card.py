"""[torch] Writes the card of a base model that was built: what it is, and how good."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from transformers import LlamaConfig

from jobs.base_models.pretraining.history import Build
from jobs.base_models.pretraining.measuring import LONG_WINDOW_TOKENS, WINDOW_TOKENS
from jobs.base_models.pretraining.texts import (
    CONTROL,
    HELD_OUT,
    PASSAGE_WORDS,
    SEPARATOR,
)
from jobs.trainer.answering.answer import Sampling
from jobs.trainer.answering.generation import Completion

# Every card has samples of these, whatever the model answers.
STORY_PROMPTS = (
    "Once upon a time",
    "One day, a little girl named",
    "There was a boy who",
    "A small dog",
    "Tom and Lily",
    "The rabbit was",
    "In a big forest",
    "It was a sunny day",
    "A bird sat",
    "Mia had a",
)
SAMPLING = Sampling(temperature=0.7, max_tokens=160, seed=1)
TEACHING = """This model learned from what a teacher foresees at each place of the
texts, not from the texts alone: so it does not know by heart what it reads many times.

"""
# This replaces control characters, which no editor shows.
NO_TEXT = "\ufffd"
KEPT = """ A build with --kept ended in the mean
of its own weights and of those it began with: its loss is from before that."""
CREDITS = "Authors and translators of the storybooks are named in CREDITS.md."


@dataclass(frozen=True)
class Origin:
    """Where a text comes from."""

    what: str
    licence: str
    # What else a reader should know.
    note: str = ""


# The origin of each text, by the name of its file.
ORIGINS = {
    "classic-books-simple": Origin(
        "old books in simple words (mlschmitt/classic-books-markdown)",
        "public domain in the US",
        "Old books carry old views.",
    ),
    "grade-school-math": Origin(
        "sums in words with their solutions (openai/grade-school-math)", "MIT"
    ),
    "storybooks-african": Origin(
        "children's stories of African Storybook (global-asp/asp-source)",
        "CC BY 4.0",
        CREDITS,
    ),
    "storybooks-pratham": Origin(
        "children's stories of Pratham Books StoryWeaver (global-asp/pb-source)",
        "CC BY 4.0",
        CREDITS,
    ),
    "tinystories": Origin(
        "very simple stories (roneneldan/TinyStories)", "CDLA-Sharing-1.0"
    ),
    "topical-chat": Origin(
        "chats of two people (alexa/Topical-Chat)", "CDLA-Sharing-1.0"
    ),
}
UNKNOWN = Origin("a file of whoever built it", "not known")


@dataclass(frozen=True, kw_only=True)
class Learned:
    """How much was learned from one source."""

    name: str
    num_documents: int
    num_tokens: int
    # How often the model went through it, in all builds.
    times: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that the card tells of a model."""

    parameters: int
    config: LlamaConfig
    sources: Sequence[Learned]
    builds: Sequence[Build]
    # The longest row that was learned from, in tokens.
    longest_row: int
    held_out: Mapping[str, float]
    samples: Sequence[tuple[str, Completion]]


def card(facts: Facts) -> str:
    """Returns the card of a model in Markdown."""
    config = facts.config
    return f"""# `tiny`

A small language model to start fine-tunes from, on any laptop. It writes like the
texts below; what it says is often wrong, and it knows next to nothing of the world.

## Shape

| What | Value |
|---|---|
| Architecture | Llama, output tied to the embeddings |
| Parameters | {facts.parameters:,} |
| Layers, heads | {config.num_hidden_layers}, {config.num_attention_heads} |
| Width, feed-forward width | {config.hidden_size}, {config.intermediate_size} |
| Positions | {config.max_position_embeddings:,} |
| Vocabulary | {config.vocab_size:,} tokens, byte-level BPE: any text round-trips |
| End-of-text token | 0; it ends every text, and stands before the first |
| Weights | bfloat16, safetensors |

## What it learned from

| Build | Parameters | Tokens | Steps | Minutes | On | Loss at the end |
|---|---|---|---|---|---|---|
{_lines(_build_line(*numbered) for numbered in enumerate(facts.builds, 1))}

Losses are nats a token of what is learned from.{_kept(facts.builds)}

{_teaching(facts.builds)}| Text | Licence | Documents | Tokens | Times read |
|---|---|---|---|---|
{_lines(map(_source_line, facts.sources))}

{_notes(facts.sources)}

{_held_out(facts.held_out)}## Samples

The first answer to each of {len(facts.samples)} fixed prompts, unpicked: temperature
{SAMPLING.temperature}, seed {SAMPLING.seed}. " …" marks what was cut off after
{SAMPLING.max_tokens} tokens.

{_lines(sample_lines(facts.samples))}
## Limits

- It was never taught to follow instructions. Fine-tune it on what it is to do.
- What it says of people, places or numbers is made up.
- A longer text may go round in circles, as some of the samples do.
- English only. Other alphabets are read byte by byte and never understood.
- Rows of up to {facts.longest_row:,} tokens were learned from; up to
  {config.max_position_embeddings:,} are allowed.

## Build it again

{_lines(_command(*numbered) for numbered in enumerate(facts.builds, 1))}

TEXTS holds the files of the table above, as `NAME.txt` with a line `{SEPARATOR}`
between documents, and those to measure by as `{HELD_OUT}NAME.txt`. EARLIER is the
model that the build before left in OUT/model, TEACHER that of a teacher. The same
texts, options and machine give the same weights, on a CPU to the bit.
"""


def _build_line(number: int, build: Build) -> str:
    cells = (
        f"{number}, {'a teacher' if build.teaches else 'this model'}",
        f"{build.parameters:,}",
        f"{build.tokens:,}",
        f"{build.steps:,}",
        f"{build.minutes:,.0f}",
        build.machine,
        f"{build.last_loss:.3f}",
    )
    return f"| {' | '.join(cells)} |"


def _command(number: int, build: Build) -> str:
    """Returns the command of a build, with a folder of its own for each build."""
    return "    " + build.command.replace(" OUT ", f" OUT{number} ")


def _teaching(builds: Sequence[Build]) -> str:
    return TEACHING if any(build.teaches for build in builds) else ""


def _kept(builds: Sequence[Build]) -> str:
    return KEPT if any(" --kept " in build.command for build in builds) else ""


def _source_line(source: Learned) -> str:
    origin = ORIGINS.get(source.name, UNKNOWN)
    return (
        f"| {source.name}: {origin.what} | {origin.licence} "
        f"| {source.num_documents:,} | {source.num_tokens:,} | {source.times:.1f} |"
    )


def _notes(sources: Sequence[Learned]) -> str:
    origins = (ORIGINS.get(source.name, UNKNOWN) for source in sources)
    notes = dict.fromkeys(origin.note for origin in origins if origin.note)
    return " ".join(["Lines with slurs were dropped, by a list.", *notes])


def _held_out(figures: Mapping[str, float]) -> str:
    if not figures:
        return ""
    return f"""## Held-out text

No passage of {PASSAGE_WORDS} words of it was learned from. Bits per byte are measured
in windows of {WINDOW_TOKENS} tokens; losses are nats a token of all files, by position
in windows of {LONG_WINDOW_TOKENS:,} tokens.

| Measure | Value |
|---|---|
{_lines(f"| {name} | {value:.4f} |" for name, value in figures.items())}

"""


def sample_lines(samples: Sequence[tuple[str, Completion]]) -> Iterable[str]:
    """Yields the lines of the samples, each a prompt and its completion."""
    for prompt, answer in samples:
        rest = answer.text if answer.finish_reason == "stop" else answer.text + " …"
        for line in f"**{prompt}**{rest}".splitlines():
            yield "> " + CONTROL.sub(NO_TEXT, line).rstrip()
        yield ""


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
