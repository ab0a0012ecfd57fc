import io

import pytest
from django.core.management import CommandError, call_command

from finetune_site.team import services
from finetune_site.team.management import base
from finetune_site.team.models import ApiKey, Member


def run(*args):
    out = io.StringIO()
    call_command(*args, stdout=out)
    return out.getvalue().strip()


def test_create_api_key_makes_the_member_and_prints_the_key_alone(db):
    key = run("create_api_key", "robot")
    assert ApiKey.objects.get().key_hash == services.hash_secret(key)
    assert Member.objects.get().username == "robot"


def test_sign_in_link_prints_a_link_that_works(member, monkeypatch):
    monkeypatch.setenv("SITE_URL", "https://train.example/")
    line = run("sign_in_link", member.username)
    prefix = "Sign in: https://train.example/sign-in/"
    assert line.startswith(prefix)
    assert services.consume_sign_in_link(token=line.removeprefix(prefix)) == member


def test_sign_in_link_of_nobody_says_what_to_do(db):
    with pytest.raises(CommandError, match="create_member nobody"):
        run("sign_in_link", "nobody")


def test_create_member_takes_a_role(db):
    assert run("create_member", "vera", "--role", "viewer").startswith("Sign in: ")
    assert Member.objects.get().role == "viewer"


def test_a_site_that_was_never_started_is_named(monkeypatch):
    monkeypatch.setattr(base, "is_migrated", lambda: False)
    with pytest.raises(CommandError, match="was not started yet"):
        run("create_api_key", "robot")
