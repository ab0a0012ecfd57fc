"""A tool of the house, no part of the running site: builds the base model that ships.

    python -m jobs.base_models.build_tiny TEXTS OUT --tokens 50M

TEXTS holds .txt files in UTF-8. A file's documents are divided by lines that hold only
<|endoftext|>, or else by blank lines. Files called heldout-*.txt are for measuring.
A build that was broken off goes on when it is started again in the same way.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError

from jobs.base_models.pretraining.errors import BuildError
from jobs.base_models.pretraining.finish import finish
from jobs.base_models.pretraining.folder import BuildFolder, Plan
from jobs.base_models.pretraining.history import history_of_teachers, read_history
from jobs.base_models.pretraining.material import (
    Material,
    Texts,
    encode_texts,
    new_tokenizer,
    read_texts,
)
from jobs.base_models.pretraining.options import (
    asked,
    dataclass_of,
    models_of,
    parse,
    passes_of,
    teachers_of,
)
from jobs.base_models.pretraining.rows import Rows, Stage
from jobs.base_models.pretraining.stored import digest_of
from jobs.base_models.pretraining.teaching import Teachers, check_teachers
from jobs.base_models.pretraining.training import (
    Pretraining,
    Schedule,
    Shape,
    choose_numerics,
)
from jobs.trainer.contract.runfolder import Numerics
from jobs.trainer.text.encoding import TokenizerError, load_tokenizer

logger = logging.getLogger("build_tiny")

# Short rows are cheap. Long rows come last, so that far positions are learned too.
STAGES = (Stage(0.9, 256), Stage(0.1, 1024))
# The steps of a trial that measures the speed. The first of them compile.
TRIAL_STEPS = 12


def main(argv: Sequence[str]) -> int:
    """Builds a model as the command line asks; returns the exit code."""
    options = parse(argv, __doc__ or "")
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        build(options)
    except (BuildError, TokenizerError, SafetensorError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nThe same command goes on from the last checkpoint.\n")
        return 130
    return 0


def build(options: argparse.Namespace) -> None:
    """Builds a model, from the beginning or from the last checkpoint of its folder.

    Raises BuildError for settings or files that cannot be used.
    """
    shape: Shape = dataclass_of(Shape, options)
    shape.check(max(stage.length for stage in STAGES))
    if options.start_from:
        shape.check_model(Path(options.start_from))
    elif options.kept:
        raise BuildError("--kept is of the model that --start-from names: give that.")
    texts = read_texts(options.texts)
    folder = BuildFolder(options.out)
    with folder.claimed():
        start = resume if folder.is_begun else begin
        material, training = start(folder, texts, options)
        logger.info(
            "%s parameters, %s steps, %s done",
            f"{training.num_parameters:,}",
            f"{training.total_steps:,}",
            f"{training.step:,}",
        )
        training.train(lambda line: tell(folder, line))
        facts = finish(folder, material, training, options)
    logger.info(json.dumps(facts.held_out, indent=1))


def begin(
    folder: BuildFolder, texts: Texts, options: argparse.Namespace
) -> tuple[Material, Pretraining]:
    """Begins a build: writes the tokenizer and the plan into its folder."""
    earlier = Path(options.start_from) if options.start_from else None
    tokenizer = (
        load_tokenizer(earlier) if earlier else new_tokenizer(texts, options.vocabulary)
    )
    check_teachers(teachers_of(options), tokenizer, options.vocabulary)
    folder.save_tokenizer(tokenizer)
    material = encode(folder, texts, options)
    numerics = choose_numerics(compiled=options.compile)
    tokens = options.tokens or tokens_in(material, options, numerics)
    training = pretraining(material, options, folder.run.checkpoint, tokens, numerics)
    if earlier:
        training.start_from(earlier)
    history = read_history(earlier) if earlier else []
    taught_by = history_of_teachers(teachers_of(options))
    # The same teacher may have taught the earlier model.
    history = [build for build in taught_by if build not in history] + history
    if any(build.texts != texts.digest for build in history):
        logger.warning(
            "An earlier model learned from other texts than these, perhaps from what "
            "is held out here: what is measured at the end may be too good."
        )
    plan = Plan(asked(options), texts.digest, digest_of(models_of(options)), tokens)
    folder.begin(plan, numerics, history)
    return material, training


def resume(
    folder: BuildFolder, texts: Texts, options: argparse.Namespace
) -> tuple[Material, Pretraining]:
    """Goes on with a build that was broken off, from its last checkpoint."""
    models = digest_of(models_of(options))
    plan, numerics = folder.agreed(asked(options), texts.digest, models)
    material = encode(folder, texts, options)
    training = pretraining(
        material, options, folder.run.checkpoint, plan.tokens, numerics
    )
    folder.cut_log(training.step)
    return material, training


def encode(folder: BuildFolder, texts: Texts, options: argparse.Namespace) -> Material:
    """Returns the texts as tokens of the tokenizer in the build's folder."""
    tokenizer = load_tokenizer(folder.path)
    return encode_texts(texts, tokenizer, passes_of(options, texts.names))


def tokens_in(
    material: Material, options: argparse.Namespace, numerics: Numerics
) -> int:
    """Returns how many tokens this machine learns from in the minutes asked for.

    Its speed is measured in a short trial.
    """
    logger.info("Tries how fast this machine is.")
    num_tokens = TRIAL_STEPS * options.tokens_per_step
    speeds: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        trial = pretraining(material, options, Path(name), num_tokens, numerics)
        trial.train(lambda line: speeds.append(line["tokens_per_second"]))
    return int(statistics.median(speeds[TRIAL_STEPS // 2 :]) * options.minutes * 60)


def pretraining(
    material: Material,
    options: argparse.Namespace,
    checkpoints: Path,
    num_tokens: int,
    numerics: Numerics,
) -> Pretraining:
    """Returns a build in memory that learns from `num_tokens` tokens."""
    total_steps = max(1, num_tokens // options.tokens_per_step)
    rows = Rows(
        material.encoded,
        STAGES,
        tokens_per_step=options.tokens_per_step,
        total_steps=total_steps,
        seed=options.seed,
    )
    folders = teachers_of(options)
    return Pretraining(
        checkpoints,
        rows,
        dataclass_of(Shape, options),
        dataclass_of(Schedule, options),
        total_steps=total_steps,
        seed=options.seed,
        numerics=numerics,
        teachers=Teachers(folders, options.taught) if folders else None,
    )


def tell(folder: BuildFolder, line: dict[str, float]) -> None:
    """Writes the line of a step to the build's log and to the terminal."""
    folder.tell(line)
    logger.info(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
