"""Builds the base model that ships inside, from a folder of text files.

    python -m jobs.base_models.build_tiny TEXTS OUT --tokens 50M

A build that was broken off goes on when it is started again in the same way.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TextIO

from tokenizers import Tokenizer

from jobs.base_models.pretraining.measuring import bits_per_byte, long_context
from jobs.base_models.pretraining.rows import Rows, Stage, encode_sources
from jobs.base_models.pretraining.texts import (
    PASSAGE_WORDS,
    Source,
    TextsError,
    passages_of,
    read_held_out,
    read_sources,
    without_passages,
)
from jobs.base_models.pretraining.training import Pretraining, Schedule, Shape
from jobs.base_models.pretraining.vocabulary import save_tokenizer, train_tokenizer
from jobs.trainer.encoding import load_tokenizer
from jobs.trainer.model import load_model
from jobs.trainer.runfolder import write_json
from jobs.trainer.spec import ModelSource

logger = logging.getLogger("build_tiny")

# Simple text is worth more to a small model, and there is less of it.
PASSES = {
    "tinystories": 3,
    "storybooks-african": 3,
    "storybooks-pratham": 3,
    "topical-chat": 3,
}
# Short rows are cheap; long ones come last, so that far positions are learned too.
STAGES = (Stage(0.6, 256), Stage(0.25, 512), Stage(0.15, 1024))
TOKENS_PER_STEP = 8192
# For the speed: the first ones compile.
TRIAL_STEPS = 12


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        build(options)
    except TextsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path, help="folder of .txt files")
    parser.add_argument("out", type=Path, help="where model and checkpoints go")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--tokens", type=number, help="to learn from in all: 50M")
    budget.add_argument("--minutes", type=float, help="what the first steps promise")
    parser.add_argument("--tokens-per-step", type=int, default=TOKENS_PER_STEP)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=True
    )
    for name, value in asdict(Shape()).items():
        parser.add_argument(option(name), type=int, default=value)
    for name, value in asdict(Schedule()).items():
        parser.add_argument(option(name), type=float, default=value)
    return parser.parse_args(argv)


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def number(text: str) -> int:
    """50M, 300k or plain digits."""
    units = {"k": 1_000, "m": 1_000_000}
    unit = units.get(text[-1:].lower(), 1)
    return int(float(text[:-1] if unit > 1 else text) * unit)


def build(options: argparse.Namespace) -> None:
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    held_out = read_held_out(options.texts)
    sources = learnable(read_sources(options.texts), held_out)
    tokenizer = tokenizer_of(out, sources, options)
    encoded = encode_sources(tokenizer, sources, PASSES)
    for source, tokens in zip(sources, encoded, strict=True):
        say(f"{source.name}: {tokens.num_tokens:,} tokens, {tokens.passes} a round")

    def pretraining(folder: Path, num_tokens: int) -> Pretraining:
        total_steps = max(1, num_tokens // options.tokens_per_step)
        rows = Rows(
            encoded,
            STAGES,
            tokens_per_step=options.tokens_per_step,
            total_steps=total_steps,
            seed=options.seed,
        )
        return Pretraining(
            folder,
            rows,
            settings(Shape, options),
            settings(Schedule, options),
            total_steps=total_steps,
            seed=options.seed,
            compiled=options.compile,
        )

    plan = plan_of(out, options, pretraining)
    training = pretraining(out, plan["tokens"])
    say(f"{training.num_parameters:,} parameters, {training.total_steps:,} steps")
    with (out / "log.jsonl").open("a") as log:
        training.train(lambda line: tell(line, log))
    model = out / "model"
    training.export(model)
    save_tokenizer(tokenizer, model, options.context)
    say(json.dumps(measure(model, held_out), indent=1))


def learnable(sources: list[Source], held_out: list[Source]) -> list[Source]:
    """Without what is kept for measuring."""
    passages = passages_of(held_out)
    kept = []
    for source in sources:
        rest, num_dropped = without_passages(source, passages)
        if num_dropped:
            say(
                f"{source.name}: dropped {num_dropped:,} paragraphs that share "
                f"{PASSAGE_WORDS} words in a row with held-out text"
            )
        kept.append(rest)
    return kept


def tokenizer_of(
    out: Path, sources: list[Source], options: argparse.Namespace
) -> Tokenizer:
    """The one of the build that is gone on with, or a new one."""
    path = out / "tokenizer.json"
    if not path.exists():
        documents = (text for source in sources for text in source.documents)
        train_tokenizer(documents, options.vocabulary).save(str(path))
    return load_tokenizer(out)


def plan_of(
    out: Path,
    options: argparse.Namespace,
    pretraining: Callable[[Path, int], Pretraining],
) -> dict[str, Any]:
    """What the build was started with, which it stays with when it goes on."""
    asked = {k: v for k, v in vars(options).items() if k not in {"texts", "out"}}
    path = out / "plan.json"
    if path.exists():
        plan: dict[str, Any] = json.loads(path.read_bytes())
        if plan["asked"] != asked:
            raise TextsError(
                f"{out} holds a build with other settings ({plan['asked']}). Give the "
                "same ones to go on with it, or another folder."
            )
        return plan
    tokens = options.tokens or tokens_in(options, pretraining)
    plan = {"asked": asked, "tokens": tokens}
    write_json(path, plan)
    return plan


def tokens_in(
    options: argparse.Namespace, pretraining: Callable[[Path, int], Pretraining]
) -> int:
    """As many as this machine learns from in the time, by its speed in a trial."""
    with tempfile.TemporaryDirectory() as name:
        speeds: list[float] = []
        trial = pretraining(Path(name), TRIAL_STEPS * options.tokens_per_step)
        trial.train(lambda line: speeds.append(line["tokens_per_second"]))
    return int(statistics.median(speeds[TRIAL_STEPS // 2 :]) * options.minutes * 60)


def settings(kind: type[Any], options: argparse.Namespace) -> Any:
    return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})


def measure(folder: Path, held_out: list[Source]) -> dict[str, float]:
    """The model as it ships."""
    model = load_model(ModelSource(base_model="tiny", path=str(folder))).eval()
    tokenizer = load_tokenizer(folder)
    figures = {
        f"{source.name} bits per byte": bits_per_byte(model, tokenizer, source)
        for source in held_out
    }
    context = long_context(model, tokenizer, held_out)
    figures |= {"loss at 128-256": context.near, "loss at 256-1024": context.far}
    return {name: round(value, 4) for name, value in figures.items()}


def tell(line: dict[str, float], log: TextIO) -> None:
    text = json.dumps(line)
    log.write(text + "\n")
    log.flush()
    say(text)


def say(text: str) -> None:
    logger.info("%s", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
