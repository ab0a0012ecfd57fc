"""[torch] What a base model is told to be: its card, made of facts and nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from jobs.base_models.pretraining.vocabulary import END_ID
from jobs.trainer.answer import Sampling
from jobs.trainer.encoding import encode_prompt
from jobs.trainer.generation import Completion, complete

# Every card has these, whatever comes of them.
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
# What the texts are, by the names of their files.
ORIGINS = {
    "classic-books-simple": (
        "old books in simple words (mlschmitt/classic-books-markdown)",
        "public domain in the US",
    ),
    "grade-school-math": (
        "sums in words with their solutions (openai/grade-school-math)",
        "MIT",
    ),
    "storybooks-african": (
        "children's stories of African Storybook (global-asp/asp-source)",
        "CC BY 4.0",
    ),
    "storybooks-pratham": (
        "children's stories of Pratham Books StoryWeaver (global-asp/pb-source)",
        "CC BY 4.0",
    ),
    "tinystories": (
        "very simple stories (roneneldan/TinyStories)",
        "CDLA-Sharing-1.0",
    ),
    "topical-chat": (
        "chats of two people (alexa/Topical-Chat)",
        "CDLA-Sharing-1.0",
    ),
}
UNKNOWN = ("a file of whoever built it", "not known")


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What was learned from a source."""

    name: str
    num_documents: int
    num_tokens: int
    # How often the model went through it.
    times: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    parameters: int
    # Of the model's config.
    config: Any
    sources: Sequence[Learned]
    tokens: int
    steps: int
    # The options of the build.
    command: str
    held_out: Mapping[str, float]
    samples: Sequence[tuple[str, Completion]]


def sample(model: Any, tokenizer: Tokenizer) -> list[tuple[str, Completion]]:
    """One answer to each prompt, the first that came."""
    ids = [encode_prompt(tokenizer, text, END_ID) for text in STORY_PROMPTS]
    answers = complete(model, tokenizer, ids, SAMPLING, END_ID)
    return list(zip(STORY_PROMPTS, answers, strict=True))


def card(facts: Facts) -> str:
    config = facts.config
    return f"""# `tiny`

A small language model to start fine-tunes from, on any laptop. It writes simple
English: stories, chats, sums in words. What it writes is often wrong, and it knows
next to nothing of the world.

## Shape

| What | Value |
|---|---|
| Architecture | Llama, output tied to the embeddings |
| Parameters | {facts.parameters:,} |
| Layers, heads | {config.num_hidden_layers}, {config.num_attention_heads} |
| Width, feed-forward width | {config.hidden_size}, {config.intermediate_size} |
| Positions | {config.max_position_embeddings:,} |
| Tokens | {config.vocab_size:,}, byte-level BPE: any text round-trips |
| End-of-text token | 0; it ends every text, and stands before the first |
| Weights | bfloat16, safetensors |

## What it learned from

{facts.tokens:,} tokens in {facts.steps:,} steps.

| Text | Licence | Documents | Tokens | Times read |
|---|---|---|---|---|
{_lines(map(_source_line, facts.sources))}

Authors and translators of the stories are named in CREDITS.md beside this file.
Paragraphs that share 13 words in a row with a held-out text were dropped, and so were
paragraphs with slurs, by a list. Old books carry old views all the same.

{_held_out(facts.held_out)}## Samples

The first answer to each of {len(facts.samples)} fixed prompts, unpicked: temperature
{SAMPLING.temperature}, seed {SAMPLING.seed}. " …" marks what was cut off after
{SAMPLING.max_tokens} tokens.

{_lines(_sample_lines(facts.samples))}
## Limits

- It was never taught to follow instructions. Fine-tune it on what it is to do.
- What it says of people, places or numbers is made up.
- English only. Other alphabets are read byte by byte and never understood.
- Rows of up to 1,024 tokens were learned from; up to {config.max_position_embeddings:,}
  are allowed.

## Build it again

    {facts.command}

The same texts, options and machine give the same weights.
"""


def _held_out(figures: Mapping[str, float]) -> str:
    if not figures:
        return ""
    return f"""## Held-out text

No passage of 13 words of it was learned from. Bits per byte are measured in windows of
256 tokens; losses are nats a token, by position in windows of 1,024.

| Measure | Value |
|---|---|
{_lines(f"| {name} | {value:.4f} |" for name, value in figures.items())}

"""


def _source_line(source: Learned) -> str:
    origin, licence = ORIGINS.get(source.name, UNKNOWN)
    return (
        f"| {source.name}: {origin} | {licence} | {source.num_documents:,} "
        f"| {source.num_tokens:,} | {source.times:.1f} |"
    )


def _sample_lines(samples: Sequence[tuple[str, Completion]]) -> Iterable[str]:
    for prompt, answer in samples:
        rest = answer.text if answer.finish_reason == "stop" else answer.text + " …"
        yield from (f"> {line}".rstrip() for line in f"**{prompt}**{rest}".split("\n"))
        yield ""


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
