"""Follows a job to its end, through every break of the connection."""

import time
from typing import Any

from finetune_site.common.wording import counted, duration
from jobs.cli.event_lines import event_text, worth_catching_up
from jobs.cli.problems import Away, Exit, Problem, Refusal
from jobs.cli.screen import Screen
from jobs.cli.server import Answer, Server
from jobs.cli.text import one_line

FINAL = {"succeeded", "failed", "cancelled"}
WAITING = {"validating_files", "queued"}
POLL_SECONDS = 0.5
# Events are asked for twice a second; how far the job is, less often.
JOB_SECONDS = 1.0
QUEUE_SECONDS = 5.0
MAX_PAUSE_SECONDS = 10.0
EVENTS_AT_ONCE = 1000
# How many older jobs are looked through to count those ahead.
MAX_JOBS = 100


class Follower:
    """Tells what happens to a job until it ends.

    `run` can be called again after a KeyboardInterrupt: nothing is told twice.
    """

    def __init__(self, server: Server, job: Answer, screen: Screen) -> None:
        self.server = server
        self.job = job
        self.screen = screen
        self.path = f"/fine_tuning/jobs/{job['id']}"
        # The id of the last event that was told.
        self.after: str | None = None
        self.is_lost = False
        self._asked_job = self._asked_queue = 0.0

    def run(self) -> Answer:
        """Returns the job once it has ended.

        Raises Problem if it cannot be followed any more.
        """
        self._show_job()
        pause = POLL_SECONDS
        while True:
            try:
                has_ended = self._has_ended()
                self._note_found()
                if has_ended:
                    return self.job
                pause = POLL_SECONDS
            except Away as error:
                self._note_lost(error)
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
            except Refusal as error:
                raise self._cannot_follow(error) from None
            time.sleep(pause)

    def _has_ended(self) -> bool:
        """Looks once, and returns whether the job has ended.

        Its events are read once more after its end was seen, so that none is missed.
        """
        self._read_events()
        if time.monotonic() - self._asked_job < JOB_SECONDS:
            return False
        self.job = self.server.get(self.path)
        self._asked_job = time.monotonic()
        if self.job["status"] in FINAL:
            self._read_events()
            return True
        self._show_job()
        return False

    def _read_events(self) -> None:
        is_first, events = self.after is None, []
        while True:
            page = self._next_page()
            events += [event_data(event) for event in page["data"]]
            if not page["has_more"]:
                break
        if is_first and len(events) > EVENTS_AT_ONCE // 2:
            events = worth_catching_up(events)
        for event in events:
            text = event_text(event, self.screen.verbosity)
            self.screen.say(text, verbosity=0)

    def _next_page(self) -> Answer:
        params: dict[str, Any] = {"order": "asc", "limit": EVENTS_AT_ONCE}
        if self.after:
            params["after"] = self.after
        page = self.server.get(f"{self.path}/events", **params)
        if page["data"]:
            self.after = page["data"][-1]["id"]
        return page

    def _show_job(self) -> None:
        status = self.job["status"]
        if status in WAITING:
            self._show_waiting()
        elif status == "paused":
            self.screen.wait("Paused. It goes on when somebody resumes it on its page.")
        else:
            # For example that a remote engine does not answer.
            self.screen.say_new(self._status_message())
            self.screen.show(self.job)

    def _show_waiting(self) -> None:
        message = self._status_message()
        if self.job["status"] == "validating_files":
            return self.screen.wait(message or "The site checks the files")
        now = time.monotonic()
        if now - self._asked_queue < QUEUE_SECONDS:
            return None
        self._asked_queue = now
        return self.screen.wait(message or queue_words(self.server, self.job))

    def _status_message(self) -> str:
        return one_line(self.job.get("status_message") or "", 300)

    def _note_lost(self, error: Away) -> None:
        if not self.is_lost:
            reason = str(error).partition("\n")[0]
            self.screen.say(f"{reason}\nThe job goes on meanwhile; trying again …")
        self.is_lost = True

    def _note_found(self) -> None:
        if self.is_lost:
            self.screen.say("The server is back.")
        self.is_lost = False

    def _cannot_follow(self, error: Refusal) -> Problem:
        if error.status == 404:
            return Problem(f"The job {self.job['id']} was deleted.", Exit.SERVER)
        return Problem(f"{error}\n{goes_on(self.job)}", Exit.SERVER)


def event_data(event: Answer) -> Answer:
    """Returns the line of events.jsonl in an event of the API.

    An event of a server that has no such lines becomes a log line with its message.
    """
    data = event.get("data")
    if isinstance(data, dict) and "type" in data:
        return data
    level, message = event.get("level", "info"), event.get("message", "")
    return {"type": "log", "level": level, "message": message}


def queue_words(server: Server, job: Answer) -> str:
    """Returns a sentence about the jobs before this one on its engine."""
    older = server.get("/fine_tuning/jobs", after=job["id"], limit=MAX_JOBS)["data"]
    engine = job.get("engine")
    ahead = [
        one
        for one in older
        if one.get("engine") == engine and one["status"] in {*WAITING, "running"}
    ]
    if not ahead:
        return "The job is queued and starts in a moment"
    words = f"The job waits behind {counted(len(ahead), 'other')}"
    left = next((one["seconds_left"] for one in ahead if one.get("seconds_left")), None)
    return words if left is None else f"{words}; {duration(left)} left of the first"


def goes_on(job: Answer) -> str:
    """Returns how to follow a job that is no longer followed."""
    return (
        f"The job {job['id']} goes on. Follow it with: openai-ft --follow {job['id']}"
    )
