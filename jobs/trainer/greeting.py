"""[torch] The first events that a trainer writes at each start.

They say what the job learns from, or that it goes on and what has changed since its
last start.
"""

from jobs.trainer.autopilot import say_less_memory
from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import Numerics
from jobs.trainer.rows.packing import Packing
from jobs.trainer.rows.token_cache import CacheFacts


def say_hello(
    events: EventWriter,
    numerics: Numerics,
    facts: CacheFacts,
    packing: Packing,
    step: int,
    note: str = "",
) -> None:
    """Writes the status and the log lines with which a start begins.

    `step` is the number of steps done, and `note` is one more line of a first start.
    """
    # A job that was paused while its tokens were counted has not said this yet.
    if events.micro_batch is None:
        _say_what_is_learned(events, numerics, facts, packing)
        if note:
            events.write("log", level="info", message=note)
        return
    if events.last_status == "paused":
        events.write("status", status="running", message="")
    events.write(
        "log", level="info", message=f"Goes on from the checkpoint of step {step:,}"
    )
    _say_if_shared_anew(events, numerics, step)
    _say_if_eased(events, numerics, step)


def _say_what_is_learned(
    events: EventWriter, numerics: Numerics, facts: CacheFacts, packing: Packing
) -> None:
    rows = "row" if packing.num_rows == 1 else "rows"
    events.write("status", status="running", message="")
    events.write(
        "log",
        level="info",
        micro_batch=numerics.micro_batch,
        processes=numerics.processes,
        message=(
            f"{facts.targets:,} tokens in {packing.num_rows:,} {rows} of "
            f"{packing.max_tokens:,}; {facts.learned_targets:,} are learned, "
            f"{facts.targets - facts.learned_targets:,} are read"
            f"{_unlearned_words(facts)}"
        ),
    )


def _unlearned_words(facts: CacheFacts) -> str:
    match facts.unlearned_examples:
        case 0:
            return ""
        case 1:
            return ". In 1 example nothing is learned"
        case number:
            return f". In {number:,} examples nothing is learned"


def _say_if_shared_anew(events: EventWriter, numerics: Numerics, step: int) -> None:
    """Says so if the number of processes is not that of the last start."""
    processes = numerics.processes
    if events.processes in {None, processes}:
        return
    events.write(
        "autopilot",
        step=step,
        processes=processes,
        message=(
            f"From here on the number of processes is {processes} instead of "
            f"{events.processes}. A step learns from the same rows, so only "
            "the rounding of its losses differs."
        ),
    )


def _say_if_eased(events: EventWriter, numerics: Numerics, step: int) -> None:
    """Says so if the site let the job take less memory.

    The site does that when a trainer died without writing why.
    """
    same_rows = events.micro_batch in {None, numerics.micro_batch}
    if same_rows and events.checkpointing == numerics.checkpointing:
        return
    why = "The trainer had ended without saying why, as it does when memory is full."
    say_less_memory(events, numerics, step, why)
