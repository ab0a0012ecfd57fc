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
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TextIO

from jobs.base_models.pretraining.card import Facts, Learned, card, sample
from jobs.base_models.pretraining.material import Material, prepare
from jobs.base_models.pretraining.measuring import bits_per_byte, long_context
from jobs.base_models.pretraining.rows import Rows, Stage
from jobs.base_models.pretraining.texts import TextsError
from jobs.base_models.pretraining.training import Pretraining, Schedule, Shape
from jobs.base_models.pretraining.vocabulary import save_tokenizer
from jobs.trainer.model import load_model
from jobs.trainer.runfolder import write_json
from jobs.trainer.spec import ModelSource

logger = logging.getLogger("build_tiny")

# Times a round goes through a text. Simple text is worth more to a small model, and
# there is less of it.
PASSES = {
    "classic-books-simple": 2,
    "tinystories": 6,
    "storybooks-african": 6,
    "storybooks-pratham": 6,
    "topical-chat": 4,
}
# Short rows are cheap; long ones come last, so that far positions are learned too.
STAGES = (Stage(0.9, 256), Stage(0.1, 1024))
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
    material = prepare(options.texts, out, options.vocabulary, PASSES)
    plan = plan_of(options, material)
    training = pretraining(options, material, out, plan["tokens"])
    say(f"{training.num_parameters:,} parameters, {training.total_steps:,} steps")
    with (out / "log.jsonl").open("a") as log:
        training.train(lambda line: tell(line, log))
    folder = out / "model"
    training.export(folder)
    save_tokenizer(material.tokenizer, folder, options.context)
    facts = facts_of(options, material, training, folder)
    (folder / "MODEL_CARD.md").write_text(card(facts))
    say(json.dumps(facts.held_out, indent=1))


def pretraining(
    options: argparse.Namespace, material: Material, folder: Path, num_tokens: int
) -> Pretraining:
    total_steps = max(1, num_tokens // options.tokens_per_step)
    rows = Rows(
        material.encoded,
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


def plan_of(options: argparse.Namespace, material: Material) -> dict[str, Any]:
    """What the build was started with, which it stays with when it goes on."""
    asked = {k: v for k, v in vars(options).items() if k not in {"texts", "out"}}
    path = options.out / "plan.json"
    if not path.exists():
        tokens = options.tokens or tokens_in(options, material)
        plan = {"asked": asked, "texts": material.digest, "tokens": tokens}
        write_json(path, plan)
        return plan
    known: dict[str, Any] = json.loads(path.read_bytes())
    if known["asked"] != asked:
        raise TextsError(
            f"{options.out} holds a build with other settings ({known['asked']}). Give "
            "the same ones to go on with it, or another folder."
        )
    if known["texts"] != material.digest:
        raise TextsError(
            f"{options.out} holds a build from other texts. Give the same ones to go "
            "on with it, or another folder."
        )
    return known


def tokens_in(options: argparse.Namespace, material: Material) -> int:
    """As many as this machine learns from in the time, by its speed in a trial."""
    with tempfile.TemporaryDirectory() as name:
        speeds: list[float] = []
        num_tokens = TRIAL_STEPS * options.tokens_per_step
        trial = pretraining(options, material, Path(name), num_tokens)
        trial.train(lambda line: speeds.append(line["tokens_per_second"]))
    return int(statistics.median(speeds[TRIAL_STEPS // 2 :]) * options.minutes * 60)


def settings(kind: type[Any], options: argparse.Namespace) -> Any:
    return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})


# ----- what became of it


def facts_of(
    options: argparse.Namespace,
    material: Material,
    training: Pretraining,
    folder: Path,
) -> Facts:
    """Of the model as it ships."""
    model = load_model(ModelSource(base_model="tiny", path=str(folder))).eval()
    num_tokens = training.total_steps * options.tokens_per_step
    return Facts(
        parameters=training.num_parameters,
        config=model.config,
        sources=learned(material, num_tokens),
        tokens=num_tokens,
        steps=training.total_steps,
        command=command(options, num_tokens),
        held_out=measure(model, material),
        samples=sample(model, material.tokenizer),
    )


def learned(material: Material, num_tokens: int) -> list[Learned]:
    a_round = sum(one.num_tokens * one.passes for one in material.encoded)
    return [
        Learned(
            name=source.name,
            num_documents=len(source.documents),
            num_tokens=one.num_tokens,
            times=num_tokens * one.passes / a_round,
        )
        for source, one in zip(material.sources, material.encoded, strict=True)
    ]


def command(options: argparse.Namespace, num_tokens: int) -> str:
    """What builds the same again, without what goes without saying."""
    unasked = vars(parse(["TEXTS", "OUT", "--tokens", str(num_tokens)]))
    words = [
        "python -m jobs.base_models.build_tiny TEXTS OUT --tokens",
        str(num_tokens),
    ]
    for name, value in vars(options).items():
        if name in {"texts", "out", "tokens", "minutes"} or value == unasked[name]:
            continue
        words += (
            [option(f"no-{name}")] if value is False else [option(name), str(value)]
        )
    return " ".join(words)


def measure(model: Any, material: Material) -> dict[str, float]:
    if not material.held_out:
        return {}
    figures = {
        f"bits per byte, {source.name}": bits_per_byte(
            model, material.tokenizer, source
        )
        for source in material.held_out
    }
    context = long_context(model, material.tokenizer, material.held_out)
    figures |= {
        "loss at positions 128 to 256": context.near,
        "loss at positions 256 to 1,024": context.far,
    }
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
