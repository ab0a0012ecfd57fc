"""Whether a remote engine answers, and when it may be asked again after a failure."""

import random
import time
from datetime import datetime

from django.utils import timezone

from jobs.engines.base import EngineTroubleError
from jobs.models import EngineSetting

# An engine without a job is asked this often, so that its page is true.
IDLE_SECONDS = 15.0
# The time of the last answer is saved at most this often.
SAVE_SECONDS = 5.0
# The pause after the first failure, and the longest one. Each is drawn from the upper
# half, so that sites that lost one engine do not all come back at once.
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 10.0


class Contact:
    """The answers and failures of one engine; its page shows the last of them."""

    def __init__(self, engine: str) -> None:
        self.rows = EngineSetting.objects.filter(name=engine)
        # In seconds of `time.monotonic`; 0 where it has not happened.
        self.answered_at = 0.0
        self.saved_at = 0.0
        self.due_at = 0.0
        # Both since the last answer.
        self.num_failures = 0
        self.away_since: datetime | None = None

    @property
    def is_due(self) -> bool:
        """Whether the engine may be asked now."""
        return time.monotonic() >= self.due_at

    @property
    def is_idle(self) -> bool:
        """Whether the last answer is so long ago that the engine should be asked."""
        return time.monotonic() - self.answered_at > IDLE_SECONDS

    def forgive(self) -> None:
        """Lets the engine be asked at once, whatever failed before."""
        self.due_at = 0.0

    def note_answer(self) -> None:
        """Notes that the engine gave a good answer now."""
        self.answered_at = time.monotonic()
        self.num_failures = 0
        self.away_since = None
        if self.saved_at and self.answered_at - self.saved_at < SAVE_SECONDS:
            return
        self.saved_at = self.answered_at
        self.rows.update(trouble="", last_answer_at=timezone.now())

    def note_trouble(self, error: EngineTroubleError) -> None:
        """Notes that there was no good answer, and leaves the engine alone a while."""
        self.num_failures += 1
        self.away_since = self.away_since or timezone.now()
        # The next answer is saved at once.
        self.saved_at = 0.0
        seconds = max(pause_seconds(self.num_failures), error.retry_after)
        self.due_at = time.monotonic() + seconds
        self.rows.exclude(trouble=error.message).update(trouble=error.message)


def pause_seconds(num_failures: int) -> float:
    """Returns how long an engine is left alone after so many failures in a row."""
    longest = min(FIRST_PAUSE_SECONDS * 2 ** min(num_failures, 10), MAX_PAUSE_SECONDS)
    return random.uniform(longest / 2, longest)  # noqa: S311  no secret
