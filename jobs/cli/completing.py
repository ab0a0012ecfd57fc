"""`openai-ft complete SNAPSHOT "prompt"`: a model's answer, as it comes."""

import argparse
import sys
from typing import Any

from jobs.cli.problems import Exit, Problem, Refusal
from jobs.cli.server import Answer, Server, from_environment
from jobs.cli.text import printable


def complete(args: argparse.Namespace) -> Exit:
    server = from_environment()
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
        if error.code == "model_not_found":
            raise Problem(
                f"There is no model {args.model}. `openai-ft list` shows what jobs "
                "have made; base models answer by their names.",
                Exit.SERVER,
            ) from None
        raise
    return Exit.OK


def stream_answer(server: Server, body: dict[str, Any]) -> None:
    for event in server.stream("/completions", {**body, "stream": True}):
        for choice in event.get("choices") or []:
            print(printable(choice.get("text") or ""), end="", flush=True)
    print()


def print_answers(answer: Answer) -> None:
    for number, choice in enumerate(answer["choices"], start=1):
        print(f"--- {number}")
        print(printable(choice["text"]))
