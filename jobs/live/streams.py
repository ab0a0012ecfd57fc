"""Watches jobs for live pages: one loop per job and process, however many look on.

A loop asks the database every 0.25 s while somebody listens. What it finds is rendered
once for all who need the same.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from django.db import Error as AnyDatabaseError
from django.db import connections

from jobs.live.page import Update, update
from jobs.live.progress import num_ahead
from jobs.models import Job

LOOK_SECONDS = 0.25
# No page changes more often; the first change after a pause goes out at once.
PACE_SECONDS = 0.4
HEARTBEAT_SECONDS = 15.0
# Then the browser asks again, and its member is checked again.
MAX_STREAM_SECONDS = 900.0

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Stamp = tuple[Any, ...]

# One thread has one connection for all loops, and the event loop never waits.
_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")
_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, "JobFeed"]] = (
    WeakKeyDictionary()
)


async def updates_of(
    pk: int, *, after: int, can_work: bool
) -> AsyncGenerator[Update | None]:
    """Yields updates of a job until it is final or gone, and None when nothing happens.

    The first update comes at once, so that a page that slept is right again. The stream
    ends after MAX_STREAM_SECONDS at the latest.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + MAX_STREAM_SECONDS
    feed = _join(pk)
    seen: Stamp | None = None
    try:
        while loop.time() < end:
            if not await feed.wait_for_change(seen):
                yield None
                continue
            seen = feed.stamp
            if seen is None:
                return
            found = await feed.update(after, can_work)
            if found is None:
                return
            after = found["seq"]
            yield found
            if found["final"]:
                return
            await asyncio.sleep(PACE_SECONDS)
    finally:
        feed.leave()


class JobFeed:
    """What changes of one job, for all who watch it.

    `stamp` is what was last seen of the job's row; it is None once the row is gone.
    """

    def __init__(self, pk: int) -> None:
        self.pk = pk
        self.num_listeners = 0
        self.stamp: Stamp | None = None
        self.changed = asyncio.Event()
        self.looked = False
        self.updates: dict[tuple[int, bool], asyncio.Future[Update | None]] = {}
        self.task: asyncio.Task[None] | None = None

    async def wait_for_change(self, seen: Stamp | None) -> bool:
        """Returns False if nothing changed for as long as a heartbeat takes."""
        if self.looked and self.stamp != seen:
            return True
        try:
            await asyncio.wait_for(self.changed.wait(), HEARTBEAT_SECONDS)
        except TimeoutError:
            return False
        return True

    async def update(self, after: int, can_work: bool) -> Update | None:
        """Returns the update, rendered once for all listeners that know as much."""
        key = (after, can_work)
        if key not in self.updates:
            read = partial(_read_update, self.pk, after, can_work)
            self.updates[key] = asyncio.ensure_future(_in_thread(read))
        return await asyncio.shield(self.updates[key])

    async def run(self) -> None:
        """Looks at the job again and again while somebody listens."""
        while self.num_listeners:
            try:
                stamp = await _in_thread(partial(_read_stamp, self.pk))
            except Exception:
                # A database that is away for a while must not end the feed.
                log.exception("could not look at job %s", self.pk)
            else:
                self._take(stamp)
            await asyncio.sleep(LOOK_SECONDS)

    def _take(self, stamp: Stamp | None) -> None:
        if self.looked and stamp == self.stamp:
            return
        self.looked, self.stamp = True, stamp
        self.updates.clear()
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def leave(self) -> None:
        """Says that one listener is gone. The feed ends with the last one."""
        self.num_listeners -= 1
        if self.num_listeners:
            return
        feeds = _feeds[asyncio.get_running_loop()]
        if feeds.get(self.pk) is self:
            del feeds[self.pk]
        if not feeds:
            _thread.submit(connections.close_all)


def _join(pk: int) -> JobFeed:
    feeds = _feeds.setdefault(asyncio.get_running_loop(), {})
    feed = feeds.get(pk)
    if feed is None:
        feed = feeds[pk] = JobFeed(pk)
    feed.num_listeners += 1
    if feed.task is None:
        feed.task = asyncio.create_task(feed.run())
    return feed


async def _in_thread(read: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(_thread, _with_db, read)


def _with_db(read: Callable[[], Result]) -> Result:
    """Calls `read` and keeps the connection, unless the connection may be broken.

    The last listener closes it.
    """
    try:
        return read()
    except AnyDatabaseError:
        connections.close_all()
        raise


def _read_stamp(pk: int) -> Stamp | None:
    """Returns whatever of a job's row a page shows, with its place in the queue."""
    fields = (
        "last_seq",
        "status",
        "want",
        "status_message",
        "snapshot_requests",
        "examples_counted",
    )
    row = Job.objects.filter(pk=pk).values_list(*fields).first()
    if row is None or row[1] != Job.Status.QUEUED:
        return row
    return (*row, num_ahead(Job.objects.get(pk=pk)))


def _read_update(pk: int, after: int, can_work: bool) -> Update | None:
    job = Job.objects.filter(pk=pk).first()
    return update(job, after=after, can_work=can_work) if job else None
