"""[contract] Reads what people want of a running trainer: control.json and signals."""

from typing import Literal

from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import RunFolder

Wish = Literal["go on", "snapshot", "pause", "stop", "leave"]
# These wishes end the job, or this start of the trainer.
ENDING: set[Wish] = {"pause", "stop", "leave"}


class Leave(Exception):
    """Ends the preparations for training, because people want something else."""

    def __init__(self, wish: Wish) -> None:
        super().__init__(wish)
        self.wish = wish


def read_wish(
    folder: RunFolder, events: EventWriter, step: int, *, told_to_leave: bool
) -> tuple[Wish, int]:
    """Returns what people want after so many steps.

    If that is a snapshot, the second value is the number of snapshot requests so far,
    all of which this snapshot meets. `told_to_leave` says whether SIGTERM has come.
    """
    control = folder.read_control()
    # A resumed job first repeats the steps on record; if it stopped earlier, it would
    # end before a step that people have seen.
    caught_up = step >= events.last_step
    if control.want == "stop" and caught_up:
        return "stop", 0
    if control.want == "pause":
        return "pause", 0
    # A job that is to stop goes on until it has caught up, and makes its last snapshot.
    if told_to_leave and control.want != "stop":
        return "leave", 0
    asked = control.snapshot_request > events.snapshot_requests
    if asked and step and caught_up:
        return "snapshot", control.snapshot_request
    return "go on", 0
