"""[contract] What people want of a running trainer, by control.json and signals."""

from typing import Literal

from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import RunFolder

Wish = Literal["go on", "snapshot", "pause", "stop", "leave"]
# With these the job, or this start of it, is over.
ENDING: set[Wish] = {"pause", "stop", "leave"}


class Leave(Exception):
    """People want something else than what is being prepared for them."""

    def __init__(self, wish: Wish) -> None:
        super().__init__(wish)
        self.wish = wish


def read_wish(
    folder: RunFolder, events: EventWriter, step: int, *, told_to_leave: bool
) -> tuple[Wish, int]:
    """After so many steps; with the snapshot requests to be met."""
    control = folder.read_control()
    # Until it has repeated what is on record, a resumed job would stop short of it.
    caught_up = step >= events.last_step
    if control.want == "stop" and caught_up:
        return "stop", 0
    if control.want == "pause":
        return "pause", 0
    # A job to be stopped leaves once it has caught up, with its last snapshot.
    if told_to_leave and control.want != "stop":
        return "leave", 0
    asked = control.snapshot_request > events.snapshot_requests
    if asked and step and caught_up:
        return "snapshot", control.snapshot_request
    return "go on", 0
