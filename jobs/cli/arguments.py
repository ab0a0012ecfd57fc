"""What can be written behind `openai-ft`, and its help pages."""

import argparse
import difflib
import math
from collections.abc import Callable
from typing import NoReturn

from jobs.cli.event_lines import Verbosity
from jobs.trainer.contract.settings import SETTINGS, Setting

WIDTH = 88

USAGE = """\
openai-ft -t FILE [-m MODEL] [more flags]
       openai-ft --follow JOB"""

ABOUT = """\
Fine-tune a model on your examples, and watch it learn.

  openai-ft -t jokes.jsonl                      train tiny, the model inside the site
  openai-ft -t jokes.jsonl --val more.jsonl     and check it on other examples
  openai-ft -t jokes.jsonl --plan               only say what it would take
  openai-ft -t jokes.jsonl -m ada               train ada, once an admin has added it
  openai-ft prepare sheet.csv                   turn another file into one to train on
  openai-ft complete tiny:latest "<joke>"       ask the newest snapshot
  openai-ft list                                the newest jobs
"""

MORE = """\
commands with a help page of their own:
  prepare FILE             check a file, and convert it
  list                     the newest jobs
  complete MODEL PROMPT    ask a snapshot, a fine-tuned model or a base model

environment:
  OPENAI_API_KEY           your key; the site's page Team makes them
  OPENAI_BASE_URL          where the site is (default: http://127.0.0.1:8000/v1);
                           OPENAI_API_BASE means the same

Ctrl-C asks whether to leave the job running, to cancel it, or to go on. A second one
leaves it running. Without a terminal Ctrl-C leaves it running.

exit codes:
  0  the job succeeded (--detach: it was made)    3  the job was cancelled
  1  the job failed                               4  the server is away, or said no
  2  something on the command line is wrong       130  Ctrl-C; a job goes on
"""

PREPARE = """\
Check a file of examples and write what is good as FILE_prepared.jsonl, in the form
{"data": {"text_list": ["...", "..."], "loss_weights": [0, 1]}}. Needs no server.

It reads
  .jsonl      that form, {"data": "text"}, {"prompt": ..., "completion": ...},
              and chats {"messages": [...]}, which it checks and leaves as they are
  .csv .tsv   with the columns prompt and completion
  .txt        one example a paragraph, a line, or all of it (--split)

Nothing is overwritten, and a file that needs no change is left alone.
"""


class Parser(argparse.ArgumentParser):
    def __init__(self, **options: object) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
                prog, max_help_position=30, width=WIDTH
            ),
            **options,  # type: ignore[arg-type]
        )

    def parse(self, argv: list[str]) -> argparse.Namespace:
        args, unknown = self.parse_known_args(argv)
        if unknown:
            self.error(self._unknown_words(unknown))
        return args

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n`{self.prog} --help` shows all.\n")

    def _unknown_words(self, unknown: list[str]) -> str:
        flag = next((text for text in unknown if text.startswith("-")), unknown[0])
        flag = flag.partition("=")[0]
        near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
        hint = f"; is it {near[0]}?" if near else ""
        return f"{flag} is not known here{hint}"


def train_parser() -> Parser:
    parser = Parser(
        prog="openai-ft",
        usage=USAGE,
        description=ABOUT,
        epilog=MORE,
        add_help=False,
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "-t",
        "--train",
        metavar="FILE",
        help="examples: a file here, or file-… on the site",
    )
    data.add_argument("--val", metavar="FILE", help="other examples, to check it by")
    _add_model(parser)
    _add_steps(parser)
    _add_watching(parser)
    _add_running(parser)
    return parser


def _add_model(parser: Parser) -> None:
    model = parser.add_argument_group("model")
    add = model.add_argument
    add(
        "-m",
        "--model",
        metavar="MODEL",
        default="tiny",
        help="base model (tiny, or one of the site's page Models), "
        "snapshot, or NAME:latest",
    )
    add("-e", "--engine", metavar="ENGINE", help="where it runs (default: local)")
    how = model.add_mutually_exclusive_group()
    how.add_argument(
        "--lora", action="store_true", help="train a small addition to the model"
    )
    how.add_argument("--full", action="store_true", help="train all of it")


def _add_steps(parser: Parser) -> None:
    add = parser.add_argument_group(
        "how it learns (left out: what suits the data)"
    ).add_argument
    for one in SETTINGS.values():
        if one.flags and one.section != "watch":
            _add_setting(add, one)


def _add_watching(parser: Parser) -> None:
    add = parser.add_argument_group("what to watch").add_argument
    add(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="answered while it learns; may be given several times",
    )
    for one in SETTINGS.values():
        if one.flags and one.section == "watch":
            _add_setting(add, one)


def _add_setting(add: Callable[..., object], one: Setting) -> None:
    add(
        *one.flags,
        dest=one.name,
        type=whole(int(one.low)) if one.is_whole else positive,
        metavar="N" if one.is_whole else "X",
        help=one.flag_help,
    )


def _add_running(parser: Parser) -> None:
    add = parser.add_argument_group("running").add_argument
    add("--plan", action="store_true", help="print the plan and start nothing")
    add("--json", action="store_true", help="with --plan: as JSON")
    add("--detach", action="store_true", help="start the job and do not follow it")
    add("--follow", metavar="JOB", help="follow a job that was started before")
    add(
        "-v",
        "--v",
        dest="verbosity",
        type=verbosity,
        nargs="?",
        const=int(Verbosity.MORE),
        default=int(Verbosity.NORMAL),
        metavar="LEVEL",
        help="0 snapshots and the end, 1 completions (default), 2 also validation "
        "and the log (-v alone), 3 every step and every call",
    )
    add("-h", "--help", action="help", help="this page")


def prepare_parser() -> Parser:
    parser = Parser(prog="openai-ft prepare", description=PREPARE)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument(
        "--join",
        choices=["nothing", "space", "newline"],
        default="nothing",
        help="put where two segments meet without white space (default: nothing)",
    )
    parser.add_argument(
        "--split",
        choices=["paragraphs", "lines", "whole"],
        default="paragraphs",
        help="an example of a .txt file (default: paragraphs)",
    )
    return parser


def list_parser() -> Parser:
    parser = Parser(prog="openai-ft list", description="The newest jobs.")
    add = parser.add_argument
    add("--limit", type=whole(1), default=20, metavar="N", help="how many (20)")
    add("--json", action="store_true", help="as JSON")
    return parser


def complete_parser() -> Parser:
    parser = Parser(
        prog="openai-ft complete", description="What a model writes after a prompt."
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="snapshot, fine-tuned model, NAME:latest, tiny")
    add("prompt", metavar="PROMPT", help="the text to go on from; - reads it")
    add("--max-tokens", type=whole(1), default=64, metavar="N", help="at most (64)")
    add("--temperature", type=not_negative, default=0.7, metavar="X", help="(0.7)")
    add("--stop", action="append", metavar="TEXT", help="ends before it; up to 4")
    add("-n", "--num-completions", type=whole(1), default=1, metavar="N", help="(1)")
    return parser


def whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number of {least} or more"
            )
        return number

    return parse


def positive(text: str) -> float:
    number = not_negative(text)
    if number == 0:
        raise argparse.ArgumentTypeError("0 would change nothing; take 1 or 0.3")
    return number


def not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if number < 0 or not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 0.5")
    return number


def verbosity(text: str) -> int:
    """Returns a level from 0 to 3. argparse gives `v` for `-vv`."""
    if set(text) == {"v"}:
        return min(Verbosity.ALL, Verbosity.MORE + len(text))
    if text not in {"0", "1", "2", "3"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not a level from 0 to 3")
    return int(text)
