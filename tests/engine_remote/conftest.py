"""A job on another server, which is a small one of the test's."""

import pytest

from finetune_site.sealing import seal
from jobs import remote_watch
from jobs.engines import remote
from jobs.models import EngineSetting, Job
from jobs.remote_watch import RemoteWatch
from tests import factories
from tests.engine_remote.looking import look
from tests.far_server import KEY, running_far


@pytest.fixture
def far(monkeypatch):
    """Looked at anew each time; a hurt engine is asked again at once."""
    monkeypatch.setattr(remote, "JOB_SECONDS", 0.0)
    monkeypatch.setattr(remote_watch, "pause_seconds", lambda num_failures: 0.0)
    with running_far() as far:
        yield far


@pytest.fixture
def lab(db, far) -> EngineSetting:
    return EngineSetting.objects.create(
        name="lab",
        kind=EngineSetting.Kind.REMOTE,
        url=far.url,
        sealed_key=seal(KEY),
        allow_private=True,
    )


@pytest.fixture
def job(lab) -> Job:
    return factories.make_job(engine="lab")


@pytest.fixture
def watch(lab) -> RemoteWatch:
    return RemoteWatch("lab")


@pytest.fixture
def running(far, watch, job) -> Job:
    look(watch, job)
    far.job["status"] = "running"
    far.add("status", status="running")
    far.add_step(1)
    return look(watch, job)
