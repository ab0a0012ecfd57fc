"""What ends when somebody leaves the team, or takes a new password."""

import time
from collections.abc import Iterator

import pytest
import requests
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.test import Client
from django.urls import reverse

from finetune_site.team import services
from finetune_site.team.models import AuditEntry
from finetune_site.team.services import create_api_key
from tests.support import factories
from tests.support.web_server import serve

OLD, NEW = "long enough 42", "another one 43"


@pytest.fixture
def few_rounds(monkeypatch):
    monkeypatch.setattr(PBKDF2PasswordHasher, "iterations", 1)


@pytest.fixture
def server() -> Iterator[str]:
    with serve() as address:
        yield address


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
    client.force_login(member)
    cookies = {"sessionid": client.cookies["sessionid"].value}
    url = server + reverse("job-live", args=[job.pk])
    with requests.get(url, cookies=cookies, stream=True, timeout=20) as answer:
        lines = answer.iter_lines(chunk_size=1)
        assert next(lines).startswith(b"id: ")
        services.deactivate_member(member=member, by=admin)
        left_at = time.monotonic()
        # The answer is complete: nothing breaks on the way.
        assert list(lines) is not None
        assert time.monotonic() - left_at < 5


@pytest.mark.django_db(transaction=True)
def test_open_stream_of_somebody_else_goes_on(server, client, member, viewer, admin):
    job = factories.make_job(status="running")
    client.force_login(member)
    cookies = {"sessionid": client.cookies["sessionid"].value}
    url = server + reverse("job-live", args=[job.pk])
    with requests.get(url, cookies=cookies, stream=True, timeout=20) as answer:
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
