"""Engines on other servers that are away, in trouble, or removed."""

from datetime import timedelta

import pytest
from django.utils import timezone

from finetune_site.common.sealing import seal
from jobs.engines import far_server
from jobs.models import EngineSetting, Job
from jobs.services import jobs as services
from jobs.watching import contact
from jobs.watching.remote_engines import EngineLoop, EngineThreads
from tests.engines.remote.looking import look
from tests.support.far_server import KEY, refusal
from tests.support.running_site import wait_for

Status = Job.Status


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (refusal(503, "Full."), "cannot answer now (503): Full."),
        (refusal(429, "Slower."), "cannot answer now (429): Slower."),
        ((200, b"<html>"), "is not this API (200)"),
        ((404, b"<html>"), "is not this API (404)"),
        ((302, b""), "sends this site on to another address"),
        (refusal(403, "You are a viewer."), "It says: You are a viewer."),
    ],
)
def test_trouble_is_said_in_words_and_passes(far, loop, running, trouble, words):
    far.trouble = trouble
    look(loop, running)
    assert running.status == Status.RUNNING
    assert words in running.status_message
    assert "Tried 1 time since" in running.status_message
    assert words in EngineSetting.objects.get().trouble
    far.trouble = None
    far.add_step(2)
    look(loop, running)
    assert (running.step, running.status_message) == (2, "")
    assert EngineSetting.objects.get().trouble == ""


def test_a_wrong_key_is_said_and_heals(far, loop, job):
    EngineSetting.objects.update(sealed_key=seal("sk-wrong"))
    look(loop, job)
    assert "does not accept the key" in job.status_message
    assert "sk-wrong" not in job.status_message
    EngineSetting.objects.update(sealed_key=seal(KEY))
    assert look(loop, job).far_uid == far.job["id"]


def test_a_key_sealed_under_another_secret_is_trouble(far, loop, job):
    EngineSetting.objects.update(sealed_key="gAAAA")
    assert "SECRET_KEY has changed" in look(loop, job).status_message


def test_no_answer_at_all(loop, job):
    EngineSetting.objects.update(url="http://127.0.0.1:9/v1")
    words = look(loop, job).status_message
    assert "does not answer at http://127.0.0.1:9: connection refused." in words


def test_an_answer_that_takes_too_long(far, loop, running, monkeypatch):
    monkeypatch.setattr(far_server, "TIMEOUT", (1.0, 0.1))
    far.hang_seconds = 0.5
    assert "it took too long" in look(loop, running).status_message


def test_a_private_address_that_is_not_allowed_is_not_asked(far, loop, job):
    EngineSetting.objects.update(allow_private=False)
    assert "private network" in look(loop, job).status_message
    assert far.calls == []


def test_a_job_may_fail_when_its_engine_is_away(far, loop, job):
    Job.objects.update(when_engine_away=Job.WhenEngineAway.FAIL)
    far.trouble = refusal(503, "Full.")
    look(loop, job)
    assert (job.status, job.is_final) == (Status.STARTING, False)
    assert "the job fails" in job.status_message
    long_ago = timezone.now() - timedelta(seconds=121)
    loop.contact.away_since = long_ago
    assert look(loop, job).status == Status.STARTING
    Job.objects.update(claimed_at=long_ago)
    look(loop, job)
    assert job.status == Status.FAILED
    assert "again and again for about 2\xa0min, and this job was to fail then" in (
        job.status_message
    )


def away_for_long(loop: EngineLoop) -> None:
    loop.contact.away_since = timezone.now() - timedelta(seconds=121)
    Job.objects.update(claimed_at=loop.contact.away_since)


def test_a_job_stopped_while_its_engine_is_away_ends(far, loop, running, member):
    far.trouble = refusal(503, "Full.")
    services.stop_job(member=member, job=running)
    look(loop, running)
    assert running.is_live
    assert "the job counts as cancelled" in running.status_message
    away_for_long(loop)
    look(loop, running)
    assert running.status == Status.CANCELLED
    assert "It is stopped there once it answers" in running.status_message
    far.trouble = None
    sweep(loop)
    assert far.job["status"] == "cancelled"


def test_a_job_paused_while_its_engine_is_away_waits(far, loop, running, member):
    far.trouble = refusal(503, "Full.")
    services.pause_job(member=member, job=running)
    away_for_long(loop)
    look(loop, running)
    assert running.is_live
    assert "The job is paused there once the engine answers." in running.status_message


def test_it_is_asked_less_often_while_it_is_away(far, loop, job, monkeypatch):
    monkeypatch.setattr(contact, "pause_seconds", lambda num_failures: 60.0)
    far.trouble = refusal(503, "Full.")
    for _ in range(5):
        look(loop, job)
    assert len(far.calls) == 1


@pytest.mark.parametrize("num", [1, 3, 50])
def test_pauses_grow_to_a_limit(num):
    pause = contact.pause_seconds(num)
    longest = min(0.5 * 2**num, contact.MAX_PAUSE_SECONDS)
    assert longest / 2 <= pause <= longest


def test_what_ended_here_meanwhile_ends_there_later(far, loop, running):
    Job.objects.update(status=Status.FAILED, finished_at=timezone.now())
    sweep(loop)
    assert far.job["status"] == "cancelled"
    # Looked at until that is seen, and never again.
    sweep(loop)
    far.calls.clear()
    sweep(loop)
    assert far.calls == []


def sweep(loop: EngineLoop) -> None:
    loop.strays_at = 0.0
    loop.look()


def test_an_idle_engine_is_asked_now_and_then(far, loop):
    loop.look()
    loop.look()
    assert far.num_calls("GET") == 1
    assert EngineSetting.objects.get().last_answer_at


def test_the_watch_ends_with_its_engine(loop):
    assert loop.look()
    EngineSetting.objects.all().delete()
    assert not loop.look()


@pytest.mark.django_db(transaction=True)
def test_each_engine_has_a_thread_that_ends_with_it(far, lab):
    EngineSetting.objects.create(
        name="dead", kind="remote", url="http://127.0.0.1:9/v1"
    )
    threads = EngineThreads()
    threads.keep()
    wait_for(lambda: far.calls, 10, "a question to the engine that lives")
    EngineSetting.objects.filter(name="dead").delete()
    wait_for(lambda: not threads.threads["dead"].is_alive, 10, "the end of one")
    assert threads.threads["lab"].is_alive
    threads.stop()
    assert not threads.threads["lab"].is_alive
