"""A job on another server, which is a small one of the test's."""

import pytest

from finetune_site.common.sealing import seal
from jobs.engines import far_jobs
from jobs.models import EngineSetting, Job
from jobs.watching import contact
from jobs.watching.remote_engines import EngineLoop
from tests.engines.remote.looking import look, new_loop
from tests.support import factories
from tests.support.far_server import KEY, running_far


@pytest.fixture
def far(monkeypatch):
    """Yields a far server. It is looked at anew each time, and asked again at once
    when it was hurt.
    """
    monkeypatch.setattr(far_jobs, "JOB_SECONDS", 0.0)
    monkeypatch.setattr(contact, "pause_seconds", lambda num_failures: 0.0)
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
def loop(lab) -> EngineLoop:
    return new_loop()


@pytest.fixture
def running(far, loop, job) -> Job:
    look(loop, job)
    far.job["status"] = "running"
    far.add("status", status="running")
    far.add_step(1)
    return look(loop, job)
