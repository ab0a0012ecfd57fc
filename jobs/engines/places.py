"""Shares the engines among members: who has a turn, and how long others wait."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from finetune_site.common.errors import BusyError
from finetune_site.team.models import Member
from jobs.serving.inbox import MAX_OPEN

# One member, by clients and playground together, leaves half of the model server's
# places to others. Further questions wait PLACE_SECONDS for a place, and are then told
# to come again.
MAX_OPEN_PER_MEMBER = MAX_OPEN // 2
PLACE_SECONDS = 20.0
LOOK_SECONDS = 0.1

# The keys are primary keys of members. There is only one web process, so it knows all.
open_questions: Counter[int] = Counter()


@asynccontextmanager
async def place(member: Member, number: int = 1) -> AsyncIterator[None]:
    """Holds places for so many questions of a member. Raises BusyError if none get
    free.
    """
    until = time.monotonic() + PLACE_SECONDS
    while open_questions[member.pk] + number > MAX_OPEN_PER_MEMBER:
        if time.monotonic() > until:
            raise BusyError(
                f"{MAX_OPEN_PER_MEMBER} of your questions are being answered already. "
                "Wait for some of these answers."
            )
        await asyncio.sleep(LOOK_SECONDS)
    open_questions[member.pk] += number
    try:
        yield
    finally:
        open_questions[member.pk] -= number
