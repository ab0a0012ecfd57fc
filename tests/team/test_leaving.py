"""What ends when somebody leaves the team, or takes a new password."""

import time
from collections.abc import Iterator

import pytest
import requests
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.test import Client
from django.urls import reverse

from finetune_site.leaving import end_streams_of_leavers
from finetune_site.team import services
from finetune_site.team.models import AuditEntry, Member
from finetune_site.team.services import create_api_key
from tests.support import factories
from tests.support.running_async import run
from tests.support.web_server import serve

OLD, NEW = "long enough 42", "another one 43"


@pytest.fixture
def few_rounds(monkeypatch):
    monkeypatch.setattr(PBKDF2PasswordHasher, "iterations", 1)


@pytest.fixture
def server() -> Iterator[str]:
    with serve() as address:
        yield address


def open_stream(server: str, client: Client, member, job) -> requests.Response:
    client.force_login(member)
    cookies = {"sessionid": client.cookies["sessionid"].value}
    url = server + reverse("job-live", args=[job.pk])
    return requests.get(url, cookies=cookies, stream=True, timeout=20)


def use_link(client: Client, token: str) -> int:
    return client.post(reverse("sign-in-link", args=[token])).status_code


@pytest.mark.django_db
def test_using_a_link_ends_the_others(client, member, admin):
    first, second = (services.create_sign_in_link(member=member) for _ in range(2))
    others = services.create_sign_in_link(member=admin)
    assert use_link(client, second) == 302
    assert use_link(Client(), first) == 410
    assert use_link(Client(), others) == 302


@pytest.mark.django_db
def test_what_was_a_leavers_stays_ended(client, member, admin):
    client.force_login(member)
    link = services.create_sign_in_link(member=member)
    key = create_api_key(member=member)
    services.deactivate_member(member=member, by=admin)
    assert client.get("/team/").status_code == 302
    services.activate_member(member=member, by=admin)
    assert client.get("/team/").status_code == 302
    assert use_link(Client(), link) == 410
    headers = {"Authorization": f"Bearer {key}"}
    assert client.get("/v1/models", headers=headers).status_code == 401


@pytest.mark.django_db(transaction=True)
def test_open_stream_of_a_leaver_ends(server, client, member, admin):
    job = factories.make_job(status="running")
    with open_stream(server, client, member, job) as answer:
        lines = answer.iter_lines(chunk_size=1)
        assert next(lines).startswith(b"id: ")
        services.deactivate_member(member=member, by=admin)
        left_at = time.monotonic()
        # The answer comes to its end, and nothing breaks on the way.
        for _ in lines:
            assert time.monotonic() - left_at < 5
        assert time.monotonic() - left_at < 5


@pytest.mark.django_db(transaction=True)
def test_open_stream_of_somebody_else_goes_on(server, client, member, viewer, admin):
    job = factories.make_job(status="running")
    with open_stream(server, client, member, job) as answer:
        lines = answer.iter_lines(chunk_size=1)
        next(lines)
        services.deactivate_member(member=viewer, by=admin)
        time.sleep(3)
        job.step, job.last_seq = 7, 1
        job.save()
        assert any(b"Step 7" in line for line in lines)


@pytest.mark.django_db
def test_new_password_asks_for_the_old_one(client, member, few_rounds):
    services.set_password(member=member, password=OLD)
    client.force_login(member)
    for form in ({"password": NEW}, {"password": NEW, "old": "wrong"}):
        assert client.post("/team/password/", form).status_code == 422
    member.refresh_from_db()
    assert member.check_password(OLD)
    other = Client()
    other.force_login(member)
    form = {"password": NEW, "old": OLD}
    assert client.post("/team/password/", form).status_code == 302
    assert client.get("/team/").status_code == 200
    assert other.get("/team/").status_code == 302


@pytest.mark.django_db
def test_fresh_link_stands_for_the_old_password(client, member, few_rounds):
    services.set_password(member=member, password=OLD)
    use_link(client, services.create_sign_in_link(member=member))
    assert "Old password" not in client.get("/team/").content.decode()
    assert client.post("/team/password/", {"password": NEW}).status_code == 302
    session = client.session
    session["link_used_at"] = time.time() - 3600
    session.save()
    assert client.post("/team/password/", {"password": OLD}).status_code == 422


@pytest.mark.django_db
def test_first_password_asks_for_a_fresh_link(client, member):
    client.force_login(member)
    assert "come in by a fresh link" in client.get("/team/").content.decode()
    for form in ({"password": NEW}, {"password": NEW, "old": ""}):
        assert client.post("/team/password/", form).status_code == 422
    assert not Member.objects.get(pk=member.pk).has_usable_password()


def test_wrong_old_passwords_are_counted(client, member, few_rounds):
    services.set_password(member=member, password=OLD)
    client.force_login(member)
    for _ in range(10):
        client.post("/team/password/", {"password": NEW, "old": "wrong"})
    answer = client.post("/team/password/", {"password": NEW, "old": OLD})
    assert "Too many wrong passwords" in answer.content.decode()


@pytest.mark.django_db
def test_sign_in_with_a_password_is_on_record(client, member, few_rounds):
    services.set_password(member=member, password=OLD)
    client.post("/sign-in/", {"username": member.username, "password": OLD})
    line = AuditEntry.objects.get(action="sign_in.password")
    assert (line.member, line.subject) == (member, member.username)


@pytest.mark.parametrize("last", [{}, {"more_body": False}])
def test_answer_that_is_complete_is_ended_once(last):
    """A second end would close the connection that the client's next request needs."""
    start = {"type": "http.response.start", "status": 200, "headers": []}
    body = {"type": "http.response.body", "body": b"a"}
    assert answered([start, body | {"more_body": True}, body | last])[3:] == []
    assert answered([start, body | last])[2:] == []


def test_answer_that_broke_off_is_ended():
    start = {"type": "http.response.start", "status": 200, "headers": []}
    body = {"type": "http.response.body", "body": b"a", "more_body": True}
    end = {"type": "http.response.body", "body": b""}
    assert answered([start, body]) == [start, body, end]


def answered(messages: list[dict]) -> list[dict]:
    """Returns what reaches the client of an application that sends these messages."""
    told: list[dict] = []

    async def app(scope, receive, send) -> None:
        for message in messages:
            await send(message)

    async def send(message) -> None:
        told.append(message)

    run(end_streams_of_leavers(app)({"type": "http"}, None, send))
    return told


@pytest.mark.django_db(transaction=True)
def test_connection_serves_further_requests_after_a_stream(server, client, member):
    job = factories.make_job(status="succeeded")
    client.force_login(member)
    url = server + reverse("job-live", args=[job.pk])
    with requests.Session() as session:
        session.cookies.set("sessionid", client.cookies["sessionid"].value)
        ports = set()
        for _ in range(5):
            with session.get(url, stream=True, timeout=20) as answer:
                ports.add(answer.raw.connection.sock.getsockname()[1])
                assert b'"final":true' in answer.content
            time.sleep(0.1)
    assert len(ports) == 1
