import pytest

from jobs.engines.local import LocalEngine
from jobs.history.advice import advice
from jobs.history.curves import read_validation
from jobs.models import Job
from jobs.services.ingestion import ingest
from tests.support import factories


@pytest.fixture
def job(db) -> Job:
    return factories.make_job(status=Job.Status.RUNNING)


def report(job: Job, *events) -> Job:
    factories.make_run_events(job, *events)
    (job.folder / "trainer.lock").touch()
    return ingest(job, LocalEngine().poll(job))


def validations(*losses: float) -> list[dict]:
    return [
        {"type": "validation", "step": step * 10, "loss": loss, "learned_loss": loss}
        for step, loss in enumerate(losses)
    ]


def test_advice_names_the_step_after_which_validation_loss_rose(job):
    job = report(job, *validations(4, 3, 2, 2.2, 2.4, 2.6))
    found = advice(job, read_validation(job))
    assert found.step == 20
    assert "risen for 30 steps, from 2.00 to 2.60" in found.title


@pytest.mark.parametrize("losses", [(4, 3, 2, 1), (4, 3, 2, 2.2), (2, 2.01, 2, 2.01)])
def test_no_advice_while_all_is_well_or_only_noise(job, losses):
    job = report(job, *validations(*losses))
    assert advice(job, read_validation(job)) is None


def test_advice_on_a_loss_that_only_rises(job):
    steps = [factories.step_event(n, learned_loss=3.0 + n / 10) for n in range(1, 31)]
    assert "above 3.10 at the beginning" in advice(report(job, *steps), []).title
