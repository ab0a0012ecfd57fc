"""Guessing of passwords."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from finetune_site.common.errors import UserError
from finetune_site.team import throttle
from finetune_site.team.models import AuditEntry, PasswordTry
from tests.support.factories import make_member

HERE = "10.0.0.7"
URL = "/sign-in/"


def tries(count: int, name: str = "mia", address: str = HERE) -> int:
    """Returns how many of so many tries were let through."""
    return sum(throttle.begin_try(name, address) is not None for _ in range(count))


@pytest.mark.django_db
def test_ten_for_a_name_from_one_address():
    assert tries(15) == throttle.MAX_WRONG_PER_NAME
    assert tries(1, address="10.0.0.8") == 1
    assert tries(1, name="olga") == 1


@pytest.mark.django_db
def test_fifty_from_one_address_whatever_the_names():
    counts = [tries(10, name=f"name {number}") for number in range(6)]
    assert sum(counts) == throttle.MAX_WRONG_PER_NETWORK


@pytest.mark.django_db
def test_a_hundred_for_a_name_from_everywhere():
    counts = [tries(1, address=f"10.0.{number}.1") for number in range(120)]
    assert sum(counts) == throttle.MAX_WRONG_PER_NAME_ANYWHERE


@pytest.mark.django_db
def test_names_are_compared_as_they_sign_in():
    assert tries(10, name=" MIA ") == 10
    assert tries(1, name="mia") == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("not an address", "not an address"),
    ],
)
def test_network_of_an_address(address, network):
    assert throttle.network(address) == network


@pytest.mark.django_db
def test_old_tries_are_forgotten(monkeypatch):
    assert tries(10) == 10
    monkeypatch.setattr(throttle, "WINDOW_MINUTES", 0)
    assert tries(5) == 5
    assert PasswordTry.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_tries_at_once_are_no_more_than_one_after_the_other():
    def guess(_: int) -> bool:
        try:
            return throttle.begin_try("mia", HERE) is not None
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(guess, range(40))) <= throttle.MAX_WRONG_PER_NAME


def test_two_passwords_are_hashed_at_once(monkeypatch):
    monkeypatch.setattr(throttle, "HASH_WAIT_SECONDS", 0.2)
    running, most, lock = 0, 0, threading.Lock()

    def hash_one(_: int) -> bool:
        nonlocal running, most
        with throttle.turn_to_hash() as may_hash:
            if not may_hash:
                return False
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.5)
            with lock:
                running -= 1
            return True

    with ThreadPoolExecutor(5) as threads:
        assert sum(threads.map(hash_one, range(5))) == 2
    assert most == 2


@pytest.mark.django_db
def test_password_typed_as_a_name_is_not_kept(client):
    make_member("mia")
    for name in ("mia", "correct horse battery"):
        client.post(URL, {"username": name, "password": "wrong"})
    lines = AuditEntry.objects.filter(action=throttle.ACTION)
    subjects = set(lines.values_list("subject", flat=True))
    assert subjects == {"mia", "a name that nobody has"}
    assert not AuditEntry.objects.filter(subject__contains="horse").exists()


@pytest.mark.django_db
def test_nobody_is_told_of_a_wrong_password_that_nobody_looked_at(member, monkeypatch):
    monkeypatch.setattr(throttle, "HASH_WAIT_SECONDS", 0.05)
    with (
        throttle.turn_to_hash(),
        throttle.turn_to_hash(),
        pytest.raises(UserError, match="Try again"),
    ):
        throttle.check_old_password(member, "any", HERE)
    assert not PasswordTry.objects.exists()
    assert not AuditEntry.objects.filter(action=throttle.ACTION).exists()
