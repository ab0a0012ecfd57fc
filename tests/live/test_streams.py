"""The stream of a live page, over a real server."""

import json
import time
from collections.abc import Iterator

import pytest
import requests
from django.db import DatabaseError, connection, connections
from django.urls import reverse

from jobs.live import streams
from jobs.models import Job
from jobs.views import live
from tests.support import factories
from tests.support.web_server import serve

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server() -> Iterator[str]:
    with serve() as address:
        yield address


@pytest.fixture
def job(db) -> Job:
    return factories.make_job(status="running")


@pytest.fixture
def cookies(client, member) -> dict[str, str]:
    client.force_login(member)
    return {"sessionid": client.cookies["sessionid"].value}


def add_completion(job: Job, text: str) -> None:
    job.last_seq += 1
    job.events.create(
        seq=job.last_seq,
        time="2026-11-22T12:00Z",
        type="completion",
        data={"prompt_index": 0, "prompt": "a", "index": 0, "text": text},
    )
    job.save()


class Stream:
    def __init__(self, server: str, job: Job, cookies: dict, **params) -> None:
        url = server + reverse("job-live", args=[job.pk])
        self.answer = requests.get(
            url, params=params, cookies=cookies, stream=True, timeout=10
        )
        self.answer.encoding = "utf-8"
        self.lines = self.answer.iter_lines(chunk_size=1, decode_unicode=True)

    def next(self) -> dict:
        line = next(line for line in self.lines if line.startswith("data: "))
        return json.loads(line.removeprefix("data: "))

    def close(self) -> None:
        self.answer.close()


@pytest.mark.alone
def test_update_arrives_within_a_second_of_the_row(server, job, cookies):
    stream = Stream(server, job, cookies)
    assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
    stream.next()
    time.sleep(streams.PACE_SECONDS)
    written = time.monotonic()
    add_completion(job, "hello")
    update = stream.next()
    assert time.monotonic() - written < 1
    assert "hello" in update["film"]["cells"][0]["html"]
    stream.close()


def test_only_parts_that_changed_are_sent_again(server, job, cookies):
    stream = Stream(server, job, cookies)
    assert set(stream.next()["parts"]) > {"status", "stats"}
    Job.objects.update(want="pause")
    parts = stream.next()["parts"]
    assert "Pausing" in parts["status"]
    assert "stats" not in parts
    stream.close()


def test_stream_begins_after_what_the_page_has(server, job, cookies):
    add_completion(job, "old")
    stream = Stream(server, job, cookies, after=job.last_seq)
    assert stream.next()["film"] is None
    stream.close()


def test_final_job_gets_a_last_update_and_the_end(server, job, cookies):
    stream = Stream(server, job, cookies)
    stream.next()
    Job.objects.update(status="succeeded")
    assert stream.next()["final"] is True
    assert list(stream.lines) == [""]


def test_deleted_job_ends_the_stream(server, job, cookies):
    stream = Stream(server, job, cookies)
    stream.next()
    Job.objects.all().delete()
    assert not [line for line in stream.lines if line]


def test_quiet_stream_shows_that_it_lives(server, job, cookies, monkeypatch):
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.2)
    stream = Stream(server, job, cookies)
    stream.next()
    assert next(line for line in stream.lines if line) == ": still here"
    stream.close()


def test_many_listeners_cost_one_look(server, job, cookies, monkeypatch):
    looks = []
    read = streams._read_stamp
    monkeypatch.setattr(streams, "_read_stamp", lambda pk: looks.append(pk) or read(pk))
    listeners = [Stream(server, job, cookies) for _ in range(5)]
    for stream in listeners:
        stream.next()
    looks.clear()
    began = time.monotonic()
    time.sleep(1)
    # One more may fall into the time, at either end.
    assert len(looks) <= (time.monotonic() - began) / streams.LOOK_SECONDS + 1
    for stream in listeners:
        stream.close()


def test_watch_ends_with_its_last_listener(server, job, cookies, monkeypatch):
    looks = []
    read = streams._read_stamp
    monkeypatch.setattr(streams, "_read_stamp", lambda pk: looks.append(pk) or read(pk))
    stream = Stream(server, job, cookies)
    stream.next()
    stream.close()
    time.sleep(1)
    looks.clear()
    time.sleep(0.6)
    assert not looks


def test_signed_out_goes_to_sign_in(server, job):
    answer = requests.get(
        server + reverse("job-live", args=[job.pk]), allow_redirects=False, timeout=5
    )
    assert answer.status_code == 302


def test_unknown_job_is_404(server, cookies):
    url = server + reverse("job-live", args=[987654])
    assert requests.get(url, cookies=cookies, timeout=5).status_code == 404


def test_the_hub_keeps_its_connection_until_an_error():
    def look():
        connection.ensure_connection()
        return connection.connection

    def fail():
        raise DatabaseError

    def ask(read):
        return streams._thread.submit(streams._with_db, read).result()

    kept = ask(look)
    assert ask(look) is kept
    with pytest.raises(DatabaseError):
        ask(fail)
    assert ask(look) is not kept
    streams._thread.submit(connections.close_all).result()


def test_streams_of_one_member_leave_some_to_others(server, job, cookies, member):
    live.open_streams[member.pk] = live.MAX_STREAMS_PER_MEMBER
    url = server + reverse("job-live", args=[job.pk])
    try:
        answer = requests.get(url, cookies=cookies, stream=True, timeout=10)
        assert answer.status_code == 429
        live.open_streams[member.pk] -= 1
        with requests.get(url, cookies=cookies, stream=True, timeout=10) as answer:
            # An iterator that is let go closes the connection.
            lines = answer.iter_lines(chunk_size=1)
            assert next(lines)
            assert live.open_streams[member.pk] == live.MAX_STREAMS_PER_MEMBER
    finally:
        del live.open_streams[member.pk]
