"""[torch] Reads the options of a build from the command line, and writes them again."""

import argparse
import math
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from jobs.base_models.pretraining.errors import BuildError
from jobs.base_models.pretraining.training import Schedule, Shape

# The share that is learned from teachers. With less, text that is read many times is
# learned by heart.
TAUGHT = 0.9
TOKENS_PER_STEP = 8192
HELP = {
    "tokens_per_step": "a multiple of the longest row",
    "seed": "of the first weights and of the order of the texts",
    "vocabulary": "tokens of the tokenizer",
    "width": "of the model",
    "layers": "of the model",
    "heads": "of a layer",
    "feed_forward": "width of the feed-forward part",
    "context": "positions of the model",
    "matrix_rate": "learning rate of the matrices in layers (Muon)",
    "other_rate": "learning rate of everything else (AdamW)",
    "decay": "of the matrices' weights, times the rate",
    "dropout": "share of what embeddings and layers give that a step leaves out",
    "warmup": "share of all steps in which the rates rise",
    "decline": "share of all steps in which they fall to nothing, at the end",
}
SHARES = {"warmup", "decline"}
PLACES = {"texts", "out", "start_from", "teachers"}
# Nobody has so many tokens or minutes.
MAX_NUMBER = 1e12


def parse(argv: Sequence[str], description: str = "") -> argparse.Namespace:
    """Returns the options of a command line; `description` is for its help."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", metavar="TEXTS", type=Path, help="folder of texts")
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="new folder for log, checkpoints, model"
    )
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--tokens", type=count, help="to learn from in all, as 50M")
    budget.add_argument(
        "--minutes", type=amount, help="to learn for, by the speed of a short trial"
    )
    _add_models(parser)
    parser.add_argument(
        "--passes",
        metavar="NAME=N",
        nargs="+",
        type=passes,
        default=[],
        help="how often a round goes through NAME.txt, where that is not once",
    )
    defaults = {"tokens_per_step": TOKENS_PER_STEP, "seed": 1}
    for name, value in (defaults | asdict(Shape()) | asdict(Schedule())).items():
        parser.add_argument(
            flag(name),
            type=_number(name, value),
            default=value,
            help=f"{HELP[name]} (default: %(default)s)",
        )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the layers, if there is a C++ compiler (default: yes)",
    )
    return parser.parse_args(argv)


def _add_models(parser: argparse.ArgumentParser) -> None:
    """Adds the options about models of earlier builds."""
    parser.add_argument(
        "--start-from",
        metavar="MODEL",
        help="folder of an earlier build's model, to learn more with another --seed",
    )
    parser.add_argument(
        "--kept",
        metavar="SHARE",
        type=share_left,
        default=0.0,
        help="of the model to start from in the finished one: the mean of both models' "
        "weights is made at the end (default: %(default)s)",
    )
    parser.add_argument(
        "--teachers",
        metavar="MODEL",
        nargs="+",
        default=[],
        help="folders of larger models of the same texts, to learn from as well",
    )
    parser.add_argument(
        "--taught",
        metavar="SHARE",
        type=taught,
        default=TAUGHT,
        help="of what is learned, if there are teachers: theirs (default: %(default)s)",
    )


def _number(name: str, default: float) -> Callable[[str], float]:
    if name in SHARES:
        return share
    if name == "dropout":
        return share_left
    if name == "decay":
        return amount_or_none
    if name == "seed":
        return seed
    return count if isinstance(default, int) else amount


def flag(name: str) -> str:
    """Returns the option of a name, such as `--tokens-per-step`."""
    return "--" + name.replace("_", "-")


def count(text: str) -> int:
    """Reads a whole number above 0, such as 300, 300k or 50M."""
    value = _size(text)
    if not 1 <= value < MAX_NUMBER or value != int(value):
        raise _not(text, "a whole number above 0, as 300, 300k or 50M")
    return int(value)


def _size(text: str) -> float:
    units = {"k": 1_000, "m": 1_000_000}
    unit = units.get(text[-1:].lower(), 1)
    return _float(text[:-1] if unit > 1 else text) * unit


def seed(text: str) -> int:
    """Reads a whole number from 0 on."""
    if not text.isdecimal() or int(text) >= MAX_NUMBER:
        raise _not(text, "a whole number from 0 on")
    return int(text)


def _number_that(fits: Callable[[float], bool], words: str) -> Callable[[str], float]:
    def number(text: str) -> float:
        if not fits(value := _float(text)):
            raise _not(text, words)
        return value

    return number


def _float(text: str) -> float:
    """Reads a number; returns NaN for other texts, which is in no range."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _not(text: str, what: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text!r} is not {what}")


amount = _number_that(lambda x: 0 < x < MAX_NUMBER, "a number above 0")
amount_or_none = _number_that(lambda x: 0 <= x < MAX_NUMBER, "a number from 0 on")
share = _number_that(lambda x: 0 <= x <= 1, "a share from 0 to 1")
# If the whole were left out or kept as it was, nothing would be learned.
share_left = _number_that(lambda x: 0 <= x < 1, "a share from 0 to below 1")
# If nothing came from the teachers, they would not be needed.
taught = _number_that(lambda x: 0 < x <= 1, "a share above 0, at most 1")


def passes(text: str) -> str:
    """Reads a text's name and how often a round goes through it: NAME=N."""
    name, joint, number = text.rpartition("=")
    if not (name and joint):
        raise _not(text, "a text's name and a number, as tinystories=3")
    return f"{name}={count(number)}"


def passes_of(options: argparse.Namespace, names: Iterable[str]) -> dict[str, int]:
    """Returns how often a round goes through each text, by name, where it was asked.

    Raises BuildError for a name that is not among `names`, and for one given twice.
    """
    pairs = (text.rsplit("=", 1) for text in options.passes)
    asked = {name: int(number) for name, number in pairs}
    if len(asked) < len(options.passes):
        raise BuildError("--passes names a text twice. Give each name once.")
    if unknown := asked.keys() - set(names):
        raise BuildError(f"--passes: there is no {min(unknown)}.txt to learn from")
    return asked


def dataclass_of(kind: type[Any], options: argparse.Namespace) -> Any:
    """Returns an object of the dataclass, whose fields are options."""
    return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})


def asked(options: argparse.Namespace) -> dict[str, Any]:
    """Returns all options except the paths of folders."""
    return {k: v for k, v in vars(options).items() if k not in PLACES}


def teachers_of(options: argparse.Namespace) -> list[Path]:
    """Returns the folders of the teachers."""
    return [Path(name) for name in options.teachers]


def models_of(options: argparse.Namespace) -> list[Path]:
    """Returns the folders of the models that a build needs.

    The teachers come first, and then the model that it starts from.
    """
    start = [Path(options.start_from)] if options.start_from else []
    return teachers_of(options) + start


def command(options: argparse.Namespace, num_tokens: int) -> str:
    """Returns the command that builds the same model again.

    It has the number of tokens and all options that are not the defaults. EARLIER
    stands for the model that the build goes on from, and TEACHER for a teacher.
    """
    defaults = vars(parse(["TEXTS", "OUT", "--tokens", str(num_tokens)]))
    words = [f"--tokens {num_tokens}"]
    for name, value in vars(options).items():
        if name in {"texts", "out", "tokens", "minutes"} or value == defaults[name]:
            continue
        words.append(_words(name, value))
    return f"python -m jobs.base_models.build_tiny TEXTS OUT {' '.join(words)}"


def _words(name: str, value: Any) -> str:
    if value is False:
        return flag(f"no-{name}")
    match name:
        case "start_from":
            value = "EARLIER"
        case "teachers":
            value = " ".join(["TEACHER"] * len(value))
        case "passes":
            value = shlex.join(value)
    return f"{flag(name)} {value}"
