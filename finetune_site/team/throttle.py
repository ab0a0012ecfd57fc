"""Slows down the guessing of passwords."""

import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from finetune_site.common.errors import UserError
from finetune_site.team.models import Member, PasswordTry
from finetune_site.team.services import record

ACTION = "sign_in.wrong_password"
WINDOW_MINUTES = 10
MAX_WRONG_PER_NAME = 10
# This limit is higher, since a team may share an address. It stops people from trying
# one password on many names.
MAX_WRONG_PER_NETWORK = 50
# From all networks together, which somebody with many addresses may use.
MAX_WRONG_PER_NAME_ANYWHERE = 100
# Whoever gets an IPv6 address gets all those that begin with the same 64 bits.
IPV6_NETWORK_BITS = 64
# A password is hashed slowly on purpose, and pages need the cores too.
MAX_HASHES_AT_ONCE = 2
HASH_WAIT_SECONDS = 10.0

TOO_MANY = (
    f"Too many wrong passwords. Wait {WINDOW_MINUTES} minutes, or ask an admin for a "
    "sign-in link."
)
BUSY = "Too many passwords are being checked at this moment. Try again."

_hashing = threading.BoundedSemaphore(MAX_HASHES_AT_ONCE)


def begin_try(username: str, address: str) -> PasswordTry | None:
    """Counts a try before its password is looked at. Returns None after too many.

    Each try is on record before the tries are counted, so that of many at once no more
    get through than one after the other.
    """
    since = timezone.now() - timedelta(minutes=WINDOW_MINUTES)
    PasswordTry.objects.filter(at__lte=since).delete()
    begun = PasswordTry.objects.create(name=_name(username), network=network(address))
    recent = PasswordTry.objects.filter(at__gt=since)
    here = recent.filter(network=begun.network)
    by_name = recent.filter(name=begun.name)
    if (
        _exceeds(here, MAX_WRONG_PER_NETWORK)
        or _exceeds(by_name, MAX_WRONG_PER_NAME_ANYWHERE)
        or _exceeds(here.filter(name=begun.name), MAX_WRONG_PER_NAME)
    ):
        # It was no guess, since nobody looked at it.
        begun.delete()
        return None
    return begun


def _exceeds(tries: QuerySet[PasswordTry], most: int) -> bool:
    return tries[: most + 1].count() > most


def note_failure(username: str, address: str) -> None:
    """Writes a wrong password to the audit trail.

    A name that nobody has is not kept: people type their password there by mistake.
    """
    name = _name(username)
    is_known = Member.objects.filter(username__iexact=name).exists()
    subject = name if is_known else "a name that nobody has"
    record(member=None, action=ACTION, subject=subject, address=address)


def check_old_password(member: Member, password: str, address: str) -> None:
    """Raises UserError if it is wrong, or too many wrong ones were typed."""
    begun = begin_try(member.username, address)
    if begun is None:
        raise UserError(TOO_MANY, field="old")
    with turn_to_hash() as may_hash:
        if not may_hash:
            begun.delete()
            raise UserError(BUSY, field="old")
        is_right = member.check_password(password)
    if not is_right:
        note_failure(member.username, address)
        raise UserError("This is not your old password.", field="old")
    begun.delete()


@contextmanager
def turn_to_hash() -> Iterator[bool]:
    """Waits for one of few turns; yields False if none came."""
    got_it = _hashing.acquire(timeout=HASH_WAIT_SECONDS)
    try:
        yield got_it
    finally:
        if got_it:
            _hashing.release()


def network(address: str) -> str:
    """Returns the network that an address counts for: itself, or its IPv6 /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:60]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found.packed, IPV6_NETWORK_BITS), strict=False))


def _name(username: str) -> str:
    return username.strip().casefold()[:150]
