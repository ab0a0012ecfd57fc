import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.urls import reverse
from django.utils import timezone

from finetune_site.team import services, throttle
from finetune_site.team.models import SignInLink

URL = "/sign-in/"
PASSWORD = "long enough 42"


@pytest.fixture
def with_password(member, monkeypatch):
    """Sets a password that is hashed in one round; a million would take a second."""
    monkeypatch.setattr(PBKDF2PasswordHasher, "iterations", 1)
    services.set_password(member=member, password=PASSWORD)
    return member


def sign_in(client, member, password=PASSWORD, **extra):
    data = {"username": member.username, "password": password, **extra}
    return client.post(URL, data)


def test_pages_send_a_stranger_to_sign_in(client, db):
    assert client.get("/team/").headers["Location"] == "/sign-in/?next=/team/"


def test_a_password_signs_in_and_leads_on(client, with_password):
    answer = sign_in(client, with_password, next="/team/")
    assert answer.headers["Location"] == "/team/"


def test_it_never_leads_to_another_site(client, with_password):
    answer = sign_in(client, with_password, next="https://example.com/")
    assert answer.headers["Location"] == "/"


def test_a_wrong_password_is_answered_with_what_to_do(client, with_password):
    answer = sign_in(client, with_password, "wrong")
    assert answer.status_code == 422
    assert "do not fit together" in answer.content.decode()


def test_ten_wrong_passwords_close_the_door_to_the_right_one(client, with_password):
    for _ in range(throttle.MAX_WRONG_PER_NAME):
        sign_in(client, with_password, "wrong")
    answer = sign_in(client, with_password)
    assert "Too many wrong passwords" in answer.content.decode()


def test_the_door_is_closed_to_that_address_only(client, with_password):
    for _ in range(throttle.MAX_WRONG_PER_NAME):
        sign_in(client, with_password, "wrong")
    client.defaults["REMOTE_ADDR"] = "10.0.0.7"
    assert sign_in(client, with_password).status_code == 302


def test_looking_at_a_link_does_not_use_it(client, member):
    url = reverse("sign-in-link", args=[services.create_sign_in_link(member=member)])
    assert client.get(url).status_code == 200
    assert SignInLink.objects.get().used_at is None


def test_the_button_of_a_link_signs_in(client, member):
    url = reverse("sign-in-link", args=[services.create_sign_in_link(member=member)])
    assert client.post(url).headers["Location"] == "/"
    assert client.session["_auth_user_id"] == str(member.pk)


def test_a_used_link_says_what_to_do(client, member):
    url = reverse("sign-in-link", args=[services.create_sign_in_link(member=member)])
    client.post(url)
    client.logout()
    answer = client.post(url)
    assert answer.status_code == 410
    assert "Ask an admin of the team for a new one" in answer.content.decode()


def test_a_used_link_greets_nobody(client, member):
    token = services.create_sign_in_link(member=member)
    services.consume_sign_in_link(token=token)
    answer = client.get(reverse("sign-in-link", args=[token]))
    assert answer.status_code == 410
    assert b"<form" not in answer.content


def test_an_expired_link_greets_nobody(client, member):
    token = services.create_sign_in_link(member=member)
    SignInLink.objects.update(expires_at=timezone.now())
    assert client.get(reverse("sign-in-link", args=[token])).status_code == 410


def test_an_unknown_link_greets_nobody(client, db):
    assert client.get(reverse("sign-in-link", args=["abc"])).status_code == 410


def test_sign_out_needs_a_post(client, member):
    client.force_login(member)
    assert client.get("/sign-out/").status_code == 405
    client.post("/sign-out/")
    assert "_auth_user_id" not in client.session


def test_a_signed_out_page_has_no_navigation(client, db):
    assert b"<nav" not in client.get(URL).content
