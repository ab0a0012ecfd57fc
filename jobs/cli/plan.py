"""`--plan`: shows what a job would do, as a table or as JSON."""

import json
from typing import Any

from finetune_site.common.wording import (
    about,
    count,
    counted,
    num_bytes,
    percent,
)
from jobs.cli.problems import Exit
from jobs.cli.screen import Screen
from jobs.cli.server import Server
from jobs.cli.text import columns


def print_plan(
    server: Server, body: dict[str, Any], as_json: bool, screen: Screen
) -> Exit:
    """Prints the plan of the job that `body` asks for. Raises Problem."""
    screen.wait("The site counts tokens")
    plan = server.ask("/fine_tuning/plan", body)
    screen.clear()
    if as_json:
        print(json.dumps(plan, indent=2))
        return Exit.OK
    print(columns(plan_rows(plan)))
    print(
        "\nNothing was started. The file stays on the site: the same line without "
        "--plan starts the job."
    )
    return Exit.OK


def plan_rows(plan: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Returns a name, a figure and a note for each line of the table."""
    steps, total = plan["steps_per_epoch"], plan["total_steps"]
    learned = percent(plan["learned_tokens"] / max(1, plan["tokens"]))
    return [
        ("examples", count(plan["examples"]), _unlearned(plan)),
        ("tokens an epoch", count(plan["tokens"]), f"{learned} of them learned"),
        ("rows an epoch", count(plan["rows"]), rows_note(plan)),
        ("steps an epoch", count(steps), ""),
        ("epochs", count(total / max(1, steps)), ""),
        ("steps", count(total), _time(plan)),
        ("completions", count(plan["completions"]), ""),
        ("snapshots", count(plan["snapshots"]), num_bytes(plan["disk_bytes"])),
        ("memory", num_bytes(plan["memory_bytes"]), ""),
    ]


def _unlearned(plan: dict[str, Any]) -> str:
    number = plan["unlearned_examples"]
    return f"{count(number)} with nothing to learn" if number else ""


def rows_note(plan: dict[str, Any]) -> str:
    """Returns how full the rows are, and how many examples are cut."""
    notes = [f"{percent(plan['padding_share'])} padding"]
    if plan["pieces_cut"]:
        cut = counted(plan["pieces_cut"], "example is", "examples are")
        notes.append(f"{cut} cut into pieces")
    return ", ".join(notes)


def _time(plan: dict[str, Any]) -> str:
    return about(plan["seconds"]) if plan.get("seconds") else ""
