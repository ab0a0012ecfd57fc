"""Attacks by people who are not signed in, on a real site with all its processes."""

import re
import resource
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress

import psutil
import pytest
import requests

from tests.support.running_site import ROOT, RunningSite, environment

TOKEN = re.compile('csrfmiddlewaretoken" value="(\\w+)"')
SECRETS = {
    "HF_TOKEN": "hf_a_token_of_the_hub",
    "SECRET_KEY": "a-secret-key-of-fifty-characters-and-some-more-of-it",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        with RunningSite(tmp_path_factory.mktemp("rude") / "data") as running:
            yield running


def memory(site) -> int:
    return psutil.Process(site.pid("web")).memory_info().rss


def test_1100_silent_connections_keep_nobody_out(site):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    before, silent = memory(site), []
    try:
        for _ in range(1100):
            silent.append(socket.create_connection(("127.0.0.1", site.port)))
        assert requests.get(f"{site.url}/healthz", timeout=10).status_code == 200
        assert requests.get(f"{site.url}/sign-in/", timeout=10).status_code == 200
        assert memory(site) - before < 60_000_000
        silent[0].settimeout(60)
        # It is told that nobody waits any longer.
        with suppress(ConnectionError):
            assert silent[0].recv(1) == b""
    finally:
        for connection in silent:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_head_of_400_mb_is_not_kept(site):
    before, sent = memory(site), 0
    piece = b"a" * 1_000_000
    with socket.create_connection(("127.0.0.1", site.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nA: ")
        with suppress(ConnectionError):
            while sent < 400:
                connection.sendall(piece)
                sent += 1
    assert sent < 50
    assert memory(site) - before < 30_000_000
    assert requests.get(f"{site.url}/healthz", timeout=10).status_code == 200


def test_model_server_is_told_no_secret(site):
    server = psutil.Process(site.pid("model_server"))
    assert not set(SECRETS) & set(server.environ())
    assert set(SECRETS) <= set(psutil.Process(site.pid("web")).environ())


@pytest.mark.parametrize("forged", ["1.2.3.4", "127.0.0.1", "1.2.3.4, 5.6.7.8"])
def test_forged_address_is_not_believed(site, forged):
    session = requests.Session()
    page = session.get(f"{site.url}/sign-in/", timeout=10).text
    token = TOKEN.search(page)[1]
    form = {"username": "admin", "password": forged, "csrfmiddlewaretoken": token}
    headers = {"X-Forwarded-For": forged, "Referer": f"{site.url}/sign-in/"}
    answer = session.post(f"{site.url}/sign-in/", form, headers=headers, timeout=30)
    assert answer.status_code == 422
    query = "SELECT network FROM team_passwordtry ORDER BY id DESC"
    with closing(sqlite3.connect(site.data_dir / "db.sqlite3")) as database:
        assert database.execute(query).fetchone() == ("127.0.0.1",)


def test_site_that_trusts_every_proxy_does_not_start(tmp_path):
    done = subprocess.run(
        [sys.executable, "manage.py", "up", "--port", "0"],
        cwd=ROOT,
        env={**environment(tmp_path / "data"), "FORWARDED_ALLOW_IPS": "10.0.0.2,*"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "FORWARDED_ALLOW_IPS trusts every address" in done.stderr
