"""Runs `openai-ft`: chooses the command, and ends with words and an exit code."""

import argparse
import os
import signal
import sys
from collections.abc import Callable

from jobs.cli import arguments
from jobs.cli.problems import Exit, Problem
from jobs.cli.text import printable

Command = Callable[[argparse.Namespace], Exit]


def main() -> None:
    """Runs the command line of this process, and exits."""
    listen_to_ctrl_c()
    # A terminal that cannot write a character shows another one instead, and readers of
    # a pipe get each line when it is written.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace", line_buffering=True)  # type: ignore[union-attr]
    try:
        sys.exit(run(sys.argv[1:]))
    except Problem as problem:
        # The words of a server may quote anything, also what steers a terminal.
        print(f"openai-ft: {printable(str(problem))}", file=sys.stderr)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader of the pipe has gone. Python would complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.OK)
    except OSError as error:
        print(f"openai-ft: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(Exit.USAGE)


def listen_to_ctrl_c() -> None:
    """Lets Ctrl-C stop the program at a terminal, even if its parent ignores Ctrl-C.

    Without a terminal an ignored SIGINT stays ignored: a shell script starts programs
    in its background that way, to keep them when the script itself is stopped.
    """
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if is_ignored and sys.stdin and sys.stdin.isatty():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run(argv: list[str]) -> Exit:
    """Runs a command line without the program's name. Raises Problem."""
    if not argv:
        arguments.train_parser().print_help()
        return Exit.USAGE
    parsers = {
        "prepare": arguments.prepare_parser,
        "list": arguments.list_parser,
        "complete": arguments.complete_parser,
    }
    if argv[0] not in parsers:
        return run_training(argv)
    args = parsers[argv[0]]().parse(argv[1:])
    return command(argv[0])(args)


def run_training(argv: list[str]) -> Exit:
    """Runs a command line that names no command: it starts or follows a job."""
    parser = arguments.train_parser()
    args = parser.parse(argv)
    if not (args.train or args.follow):
        parser.error("say what to train on: -t FILE")
    if args.train and args.follow:
        parser.error("-t starts a job and --follow follows one; give one of them")
    if args.follow and (args.plan or args.detach):
        parser.error("--follow follows a job that is there; leave the other one out")
    if args.json and not args.plan:
        parser.error("--json goes with --plan")
    return command("train")(args)


def command(name: str) -> Command:
    """Returns the function of a command.

    It is imported here, so that a help page need not wait for the imports of others.
    """
    match name:
        case "prepare":
            from jobs.cli.preparing import prepare

            return prepare
        case "list":
            from jobs.cli.listing import list_jobs

            return list_jobs
        case "complete":
            from jobs.cli.completing import complete

            return complete
    from jobs.cli.training import train

    return train
