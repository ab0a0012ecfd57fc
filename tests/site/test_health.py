import subprocess
import sys
from datetime import timedelta

import pytest
from django.db import DatabaseError
from django.utils import timezone

from datasets.models import DatasetVersion
from finetune_site import health
from jobs.models import Heartbeat, Job
from jobs.services.heartbeats import forget_heartbeats
from tests.support.factories import make_dataset, make_job
from tests.support.running_site import ROOT, environment


@pytest.fixture
def all_alive(db, monkeypatch):
    monkeypatch.setattr(health.client, "is_alive", lambda _: True)
    for name in ("worker", "watcher"):
        Heartbeat.objects.create(name=name, at=timezone.now())


def test_all_alive_is_ok_without_signing_in(client, all_alive):
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_silence_of_the_worker_shows(client, all_alive, monkeypatch):
    monkeypatch.setattr(health, "STARTING_SECONDS", 0)
    late = timezone.now() - timedelta(seconds=31)
    Heartbeat.objects.filter(name="worker").update(at=late)
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (503, "degraded")
    assert answer.json()["processes"]["worker"]["alive"] is False
    assert answer.json()["processes"]["watcher"]["alive"] is True


@pytest.mark.parametrize(("silent_for", "alive"), [(5, True), (31, False)])
def test_a_worker_that_imports_is_alive_as_long_as_the_import(
    client, all_alive, monkeypatch, silent_for, alive
):
    monkeypatch.setattr(health, "STARTING_SECONDS", 0)
    now = timezone.now()
    Heartbeat.objects.filter(name="worker").update(at=now - timedelta(seconds=60))
    DatasetVersion.objects.filter(pk=make_dataset().pk).update(
        status="importing", claimed_at=now - timedelta(seconds=silent_for)
    )
    answer = client.get("/healthz").json()
    assert answer["processes"]["worker"]["alive"] is alive


def test_an_empty_site_is_starting(client, db, monkeypatch):
    monkeypatch.setattr(health, "STARTING_SECONDS", 10**9)
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (503, "starting")


def test_a_heartbeat_of_an_earlier_start_does_not_count(client, all_alive):
    forget_heartbeats()
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["processes"]["worker"] == {"alive": False, "seconds_ago": None}


def test_running_jobs_are_counted(client, all_alive):
    make_job(status=Job.Status.RUNNING)
    make_job(status=Job.Status.QUEUED)
    assert client.get("/healthz").json()["running_jobs"] == 1


def test_a_database_that_is_away_is_no_crash(client, all_alive, monkeypatch):
    def fail(*_, **__):
        raise DatabaseError

    monkeypatch.setattr(Heartbeat.objects, "values_list", fail)
    monkeypatch.setattr(Job.objects, "filter", fail)
    assert client.get("/healthz").status_code == 503


def test_production_settings_pass_the_deployment_check(tmp_path):
    result = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "INFO"],
        cwd=ROOT,
        env=environment(tmp_path) | {"HTTPS": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
