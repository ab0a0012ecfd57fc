"""`openai-ft -t FILE`: sends the data, starts a job or plans it, and follows it."""

import argparse
import re
import sys
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import quote as quote_path

from finetune_site.common.wording import counted, duration, loss
from jobs.cli.creation import create_job, job_body
from jobs.cli.event_lines import Verbosity
from jobs.cli.example_rows import SAVE_AS_CSV, SHEETS, WORKBOOKS
from jobs.cli.following import FINAL, Follower, goes_on
from jobs.cli.model_words import ADD_OTHERS, base_models
from jobs.cli.plan import print_plan
from jobs.cli.problems import Away, Exit, Problem, Refusal
from jobs.cli.screen import Screen
from jobs.cli.server import Answer, Server, from_environment
from jobs.cli.text import indented
from jobs.cli.uploads import find_same, upload, wait_until_read
from jobs.trainer.contract.settings import SETTINGS

FILE_ID = re.compile(r"file-[0-9A-Za-z]+")
# What the API calls a field, and which flag it comes from.
FLAGS = {
    "model": "-m",
    "training_file": "-t",
    "validation_file": "--val",
    "engine": "-e",
    **{one.api_name: one.flags[0] for one in SETTINGS.values() if one.flags},
    "prompts": "--prompt",
    "method": "--lora/--full",
}
ENDS = {
    "succeeded": Exit.OK,
    "failed": Exit.FAILED,
    "cancelled": Exit.CANCELLED,
}


def train(args: argparse.Namespace) -> Exit:
    server = from_environment(trace=args.verbosity >= Verbosity.ALL)
    with Screen(args.verbosity) as screen:
        if args.follow:
            return follow(server, find_job(server, args.follow), screen)
        check_paths(args)
        if args.json:
            screen.verbosity = Verbosity.QUIET
        body = send_files(server, args, screen)
        try:
            if args.plan:
                return print_plan(server, body, args.json, screen)
            job = create_job(server, body)
        except Refusal as error:
            raise with_flag(server, error) from None
        screen.say(f"Job {job['id']}: {job.get('name') or job['model']}")
        if args.detach:
            print(goes_on(job))
            return Exit.OK
        return follow(server, job, screen)


def find_job(server: Server, job_id: str) -> Answer:
    try:
        return server.get(f"/fine_tuning/jobs/{quote_path(job_id, safe='')}")
    except Refusal as error:
        if error.status != 404:
            raise
        raise Problem(
            f"There is no job {job_id}. `openai-ft list` shows those there are."
        ) from None


def check_paths(args: argparse.Namespace) -> None:
    """Raises Problem for files that cannot be sent, before anything is sent."""
    for flag, given in (("-t", args.train), ("--val", args.val)):
        if given is None or is_file_id(given):
            continue
        path = Path(given)
        if path.is_dir():
            raise Problem(f"{flag}: {given} is a folder; name a file in it.")
        if not path.is_file():
            raise Problem(
                f"{flag}: there is no file {given} here (the folder is {Path.cwd()}), "
                "and it is not the id of one on the site, like file-…"
            )
        if not path.stat().st_size:
            raise Problem(f"{flag}: {given} is empty.")
        if path.suffix.lower() in WORKBOOKS:
            raise Problem(f"{flag}: {given} is a spreadsheet. {SAVE_AS_CSV}")
        if path.suffix.lower() in SHEETS:
            raise Problem(
                f"{flag}: {given} is a table. Turn it into a file to train on with: "
                f"openai-ft prepare {quote(given)}"
            )


def is_file_id(given: str) -> bool:
    """Returns whether it is an id on the site. A file here of that name comes first."""
    return bool(FILE_ID.fullmatch(given)) and not Path(given).exists()


def send_files(
    server: Server, args: argparse.Namespace, screen: Screen
) -> dict[str, Any]:
    train_id = send_file(server, args.train, screen)
    val_id = send_file(server, args.val, screen) if args.val else None
    return job_body(args, train_id, val_id)


def send_file(server: Server, given: str, screen: Screen) -> str:
    """Returns the id of a file on the site, which is sent unless it is there."""
    if is_file_id(given):
        return given
    path = Path(given)
    if screen.is_live:
        screen.wait(f"Looking whether {path.name} is on the site already")
    same = find_same(server, path)
    screen.clear()
    if same:
        screen.say(f"{path.name} is on the site already, as {same['id']}.")
        return str(same["id"])
    with screen.sending(path.name, path.stat().st_size) as progress:
        file = upload(server, path, progress)
    file = wait_until_read(server, file, screen)
    screen.say(f"Sent {path.name} as {file['id']}{_examples(file)}.")
    screen.say(_cut_words(path, file))
    if details := file.get("status_details"):
        screen.say(f"  {indented(details, '  ')}")
    return str(file["id"])


def _examples(file: Answer) -> str:
    number = file.get("num_examples")
    return f": {counted(number, 'example')}" if number else ""


def _cut_words(path: Path, file: Answer) -> str:
    """Returns a note that the site cuts plain text, which may surprise the sender."""
    if path.suffix.lower() != ".txt" or (file.get("num_examples") or 0) < 2:
        return ""
    return (
        "  Every paragraph is an example. "
        f"`openai-ft prepare {quote(str(path))} --split whole` makes one of them all."
    )


def with_flag(server: Server, error: Refusal) -> Problem:
    """Returns the refusal with the name of the flag instead of the field."""
    field = (error.param or "").rpartition(".")[2]
    flag = FLAGS.get(field)
    if flag is None:
        return error
    text = str(error).removeprefix(f"{error.param}: ")
    if error.code == "model_not_found":
        text = "There is no model of that name."
    if field == "model":
        text = f"{text} {base_models(server)} {ADD_OTHERS}"
    return Problem(f"{flag}: {text}", Exit.USAGE)


def follow(server: Server, job: Answer, screen: Screen) -> Exit:
    follower = Follower(server, job, screen)
    while True:
        try:
            job = follower.run()
            break
        except KeyboardInterrupt:
            screen.clear()
            if not stays(server, follower.job, screen):
                print(f"\n{goes_on(follower.job)}")
                return Exit.INTERRUPTED
    screen.clear()
    return report_end(job, screen)


def stays(server: Server, job: Answer, screen: Screen) -> bool:
    """Returns whether somebody who pressed Ctrl-C goes on following; twice is no."""
    if not (screen.is_live and sys.stdin.isatty()):
        return False
    question = "\nStop following: [l]eave the job running, [c]ancel it, or [g]o on? "
    while True:
        try:
            answer = input(question).strip().lower()
        except (KeyboardInterrupt, EOFError):
            return False
        match answer[:1]:
            case "" | "l":
                return False
            case "g":
                return True
            case "c":
                cancel(server, job, screen)
                return True


def cancel(server: Server, job: Answer, screen: Screen) -> None:
    try:
        server.ask(f"/fine_tuning/jobs/{job['id']}/cancel")
    except Refusal as error:
        # It may have ended just now; else it is not for this key to cancel.
        screen.say(str(error))
    except Away:
        screen.say("The server does not answer, so the job goes on. Try again.")
    else:
        screen.say("Cancelled. It may leave a last snapshot; one moment …")


def report_end(job: Answer, screen: Screen) -> Exit:
    status = job["status"]
    assert status in FINAL  # noqa: S101  the follower returns no other
    if status == "failed":
        error = job.get("error") or {}
        raise Problem(f"The job failed. {error.get('message', '')}", Exit.FAILED)
    screen.say(_end_words(job), verbosity=Verbosity.QUIET)
    return ENDS[status]


def _end_words(job: Answer) -> str:
    steps = counted(job.get("step") or 0, "step")
    words = f"{str(job['status']).capitalize()} after {steps}"
    if job.get("finished_at"):
        words += f" in {duration(job['finished_at'] - job['created_at'])}"
    for name in ("train", "validation"):
        value = job.get(f"{name}_loss")
        if value is not None:
            words += f", {name} loss {loss(value)}"
    model = job.get("fine_tuned_model") or job.get("last_snapshot")
    if not model:
        return f"{words}."
    return f'{words}.\nAsk it: openai-ft complete {quote(model)} "your prompt"'
