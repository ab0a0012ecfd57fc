"""`openai-ft complete SNAPSHOT "prompt"`: a model's answer, as it comes."""

import argparse
import sys
from typing import Any

from jobs.cli.model_words import ADD_OTHERS, base_models
from jobs.cli.problems import Exit, Problem, Refusal
from jobs.cli.server import Answer, Server, from_environment
from jobs.cli.text import printable

# A person waits before the screen, and an engine that is away stays so for longer.
PATIENCE_SECONDS = 20


def complete(args: argparse.Namespace) -> Exit:
    """Prints the answers. Raises Problem."""
    server = from_environment(patience=PATIENCE_SECONDS, on_later=say_later)
    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    body: dict[str, Any] = {
        "model": args.model,
        "prompt": prompt,
        "max_tokens": args.max_tokens,
        "temperature": args.temperature,
        "n": args.num_completions,
    }
    if args.stop:
        body["stop"] = args.stop
    try:
        if args.num_completions == 1:
            stream_answer(server, body)
        else:
            print_answers(server.ask("/completions", body))
    except Refusal as error:
        raise with_models(server, args.model, error) from None
    return Exit.OK


def say_later(reason: str) -> None:
    """Says that the answer comes later."""
    # To standard error, so that a pipe holds only what the model writes.
    print(f"{printable(reason)}\nTrying again for a moment …", file=sys.stderr)


def with_models(server: Server, model: str, error: Refusal) -> Problem:
    """Returns the refusal; if it is about the model, it names the models there are."""
    if error.param != "model" and error.code != "model_not_found":
        return error
    names = base_models(server)
    if error.code != "model_not_found":
        return Problem(f"{error} {names}", Exit.SERVER)
    return Problem(
        f"There is no model {model}. `openai-ft list` shows what jobs have made. "
        f"{names} {ADD_OTHERS}",
        Exit.SERVER,
    )


def stream_answer(server: Server, body: dict[str, Any]) -> None:
    """Prints one answer while it comes."""
    for event in server.stream("/completions", {**body, "stream": True}):
        for choice in event.get("choices") or []:
            print(printable(choice.get("text") or ""), end="", flush=True)
    print()


def print_answers(answer: Answer) -> None:
    """Prints several answers, which have come whole."""
    for number, choice in enumerate(answer["choices"], start=1):
        print(f"--- {number}")
        print(printable(choice["text"]))
