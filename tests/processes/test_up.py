"""`manage.py up` with its real processes, killed one after another."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import requests

from finetune_site.processes import groups
from tests.support.running_site import (
    PROCESSES,
    ROOT,
    RunningSite,
    environment,
    wait_for,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with RunningSite(tmp_path_factory.mktemp("up") / "data") as running:
        yield running


def test_an_empty_folder_comes_to_life(site):
    assert set(site.health()["processes"]) == set(PROCESSES)
    assert site.data_dir.stat().st_mode & 0o777 == 0o700


def test_the_printed_link_signs_an_admin_in(site):
    with requests.Session() as session:
        link = site.sign_in_link()
        page = session.get(link, timeout=5)
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
        answer = session.post(
            link, {"csrfmiddlewaretoken": token}, timeout=5, allow_redirects=False
        )
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")


def test_no_process_of_the_site_loads_torch(site):
    for name in ("web", "watcher", "worker"):
        maps = "".join(
            m.path for m in psutil.Process(site.pid(name)).memory_maps(grouped=True)
        )
        assert "libtorch" not in maps, name


def test_a_second_up_on_the_folder_is_refused(site):
    second = subprocess.run(
        [sys.executable, "manage.py", "up", "--port", "0"],
        cwd=ROOT,
        env=environment(site.data_dir),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 1
    assert f"is running already (process {site.process.pid})" in second.stderr
    assert site.health()


def test_a_taken_port_is_named(site, tmp_path):
    second = subprocess.run(
        [sys.executable, "manage.py", "up", "--port", str(site.port)],
        cwd=ROOT,
        env=environment(tmp_path / "other"),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 1
    assert f"Choose another port: --port {site.port + 1}" in second.stderr


@pytest.mark.parametrize("name", PROCESSES)
def test_a_killed_process_comes_back(site, name):
    old_group = site.group(name)
    old = site.kill(name)
    wait_for(lambda: site.pid(name) not in (0, old), 5, f"a new {name}")
    assert not list(groups.members(old_group))
    site.wait_until_healthy()


def test_a_new_worker_works(site):
    """The worker's process is there, and it also runs tasks, such as the heartbeat."""
    site.kill("worker")
    killed_at = time.monotonic()

    def has_beaten() -> bool:
        health = site.health()
        silence = health["processes"]["worker"]["seconds_ago"] if health else 99
        return silence < time.monotonic() - killed_at - 1

    wait_for(has_beaten, 20, "a heartbeat of the new worker")


def test_visitors_wait_while_the_web_process_starts_again(site):
    site.kill("web")
    assert requests.get(f"{site.url}/sign-in/", timeout=10).status_code == 200


def test_orphans_of_an_earlier_start_are_ended_first(tmp_path):
    run_dir = tmp_path / "data" / "run"
    run_dir.mkdir(parents=True)
    orphan, _ = groups.start_group(
        run_dir / "worker.json", ["sleep", "60"], dict(os.environ), [], tmp_path
    )
    site = RunningSite(tmp_path / "data")
    try:
        assert orphan.wait(15) == -signal.SIGKILL
    finally:
        site.stop()


def test_a_killed_up_leaves_no_orphan_and_the_next_one_works_and_ends(site):
    site.process.kill()
    site.process.wait()
    wait_for(lambda: not site.processes(), 6, "the end of all processes")
    with RunningSite(site.data_dir) as second:
        assert all(map(second.pid, PROCESSES))
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(10) == 0
        assert not second.processes()
        assert "The site has stopped." in second.output()
