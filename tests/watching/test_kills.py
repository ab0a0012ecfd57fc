"""Any process may be killed at any moment: the job ends as if nothing had been."""

import json
import os
import shutil
import signal
import threading
import time

import psutil
import pytest

from jobs.trainer.contract.events import read_events
from jobs.trainer.contract.runfolder import RunFolder
from tests.support.running_site import RunningSite, wait_for
from tests.support.training import of_type, start_trainer
from tests.support.visitor import Visitor, write_short_jokes

pytestmark = pytest.mark.long

FINAL = {"succeeded", "failed", "cancelled"}
# Those that are killed while one and the same trainer goes on.
OTHERS = ["web", "worker", "watcher", "model_server"]


class Team:
    """A site with one dataset, the jobs somebody starts there, and what is killed."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        self.start()

    def start(self):
        self.site = RunningSite(self.data_dir).__enter__()
        self.visitor = Visitor(self.site)

    def upload(self):
        self.visitor.upload(write_short_jokes(self.data_dir.parent), "Jokes")
        self.version_id = wait_for(self.ready_version, 20, "the import")

    def ready_version(self):
        query = "SELECT id FROM datasets_datasetversion WHERE status = 'ready'"
        rows = self.visitor.rows(query)
        return rows and rows[0]["id"]

    def start_job(self):
        return self.visitor.start_job(
            dataset_version=self.version_id,
            epochs=2,
            max_tokens=64,
            completions_every=40,
            snapshots_every=40,
        )

    def run_folder(self, job_id):
        return self.data_dir / "runs" / self.visitor.job(job_id)["uid"]

    def trainer_pid(self, job_id):
        """Returns the trainer's process id, or 0 while there is none."""
        path = self.run_folder(job_id) / "trainer.json"
        pid = json.loads(path.read_text())["pid"] if path.exists() else 0
        return pid if pid and psutil.pid_exists(pid) else 0

    def kill(self, victim, job_id):
        if victim == "trainer":
            pid = self.trainer_pid(job_id)
            assert pid, "the trainer is gone already"
            os.kill(pid, signal.SIGKILL)
        elif victim == "up":
            self.site.process.kill()
            self.site.process.wait()
            wait_for(lambda: not self.site.processes(), 10, "the end of all")
            self.start()
        else:
            self.site.kill(victim)

    def wait_for_step(self, job_id, step):
        def reached():
            return self.visitor.job(job_id)["step"] >= step

        wait_for(reached, 90, f"step {step}; the log: {self.site.output()[-2000:]}")

    def wait_for_end(self, job_id):
        def ended():
            return self.visitor.job(job_id)["status"] in FINAL

        wait_for(ended, 120, f"the end; the log: {self.site.output()[-2000:]}")
        return self.visitor.job(job_id)


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    team = Team(tmp_path_factory.mktemp("kills") / "data")
    try:
        team.upload()
        yield team
    finally:
        team.site.stop()


def undisturbed(spec, folder):
    """Returns the step losses of a job when nothing happens to it."""
    run = RunFolder(folder)
    folder.mkdir()
    shutil.copy(spec, run.spec)
    assert start_trainer(run).wait() == 0, run.log.read_text()
    return losses_of(of_type(read_events(run.events)[0], "step"))


def losses_of(events):
    return [(event["step"], event["learned_loss"]) for event in events]


class TrainerCount(threading.Thread):
    """Counts the trainers of a folder again and again, as `ps` would show them."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.mark = str(folder)
        self.most = 0
        self.stopped = threading.Event()

    def now(self):
        found = 0
        for process in psutil.process_iter(["cmdline", "status"]):
            line = process.info["cmdline"] or []
            alive = process.info["status"] != psutil.STATUS_ZOMBIE
            found += alive and any(part.startswith(self.mark) for part in line)
        return found

    def run(self):
        while not self.stopped.wait(0.1):
            self.most = max(self.most, self.now())


@pytest.fixture
def job(team, tmp_path):
    """Yields a job that has just begun. In the end it is as if nothing had been."""
    job_id = team.start_job()
    count = TrainerCount(team.run_folder(job_id))
    count.start()
    wait_for(lambda: team.trainer_pid(job_id), 20, "a trainer")
    yield job_id
    job = team.wait_for_end(job_id)
    count.stopped.set()
    count.join()
    assert job["status"] == "succeeded", job["status_message"]
    spec = team.run_folder(job_id) / "spec.json"
    losses = losses_of(team.visitor.events(job_id, "step"))
    assert losses == undisturbed(spec, tmp_path / "undisturbed")
    assert count.most == 1


def kill_at(team, job_id, victims, step):
    """Kills them once the job is at that step, which is not its last."""
    team.wait_for_step(job_id, step)
    for victim in victims:
        assert team.visitor.job(job_id)["status"] == "running"
        team.kill(victim, job_id)


def test_a_job_survives_the_death_of_every_process_but_its_own(team, job):
    for step in (1, 24):
        kill_at(team, job, OTHERS, step)


def test_a_job_survives_the_death_of_its_trainer_and_of_all_the_site(team, job):
    # While it still begins.
    time.sleep(0.5)
    team.kill("trainer", job)
    kill_at(team, job, ["trainer"], 12)
    kill_at(team, job, ["trainer", "up"], 30)
    # Its trainer may be at the end before the site is back.
    kill_at(team, job, ["up"], 40)


def test_nothing_is_left_after_the_end(team):
    team.site.stop()
    assert team.site.processes() == []
    assert TrainerCount(team.data_dir / "runs").now() == 0
