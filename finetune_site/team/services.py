"""Changes the team: members, sign-in links, API keys and the audit trail."""

import hashlib
import secrets
from datetime import timedelta
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from finetune_site.common.errors import UserError
from finetune_site.team.models import ApiKey, AuditEntry, Member, Role, SignInLink

LINK_HOURS = 24
KEY_PREFIX = "sk-ft-"


def record(
    *, member: Member | None, action: str, subject: str, **detail: Any
) -> AuditEntry:
    """Adds a line to the audit trail. `action` is noun.verb, for example job.create."""
    return AuditEntry.objects.create(
        member=member, action=action, subject=subject[:200], detail=detail
    )


def hash_secret(secret: str) -> str:
    """Returns a fast hash. Secrets of 192 random bits cannot be guessed, so they need
    no slow one.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def name_taken(username: str, found: Member | None = None) -> UserError:
    """Returns the error for a name that another member has: `found`, if it is known."""
    return UserError(
        f"The name {username} is taken. Choose another one.",
        field="username",
        link=f"{reverse('team')}#member-{found.pk}" if found else "",
    )


@transaction.atomic
def create_member(
    *, username: str, role: str = Role.MEMBER, by: Member | None = None
) -> Member:
    """Returns a new member without a password, who needs a sign-in link to come in."""
    username = username.strip()
    member = Member(username=username, role=role)
    member.set_unusable_password()
    if found := Member.objects.filter(username__iexact=username).first():
        raise name_taken(username, found)
    try:
        member.full_clean()
        member.save()
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise UserError(messages[0], field=field) from None
    except IntegrityError:
        raise name_taken(username) from None
    record(member=by, action="member.create", subject=username, role=role)
    return member


@transaction.atomic
def create_sign_in_link(*, member: Member, by: Member | None = None) -> str:
    """Returns the token, which is stored nowhere."""
    token = secrets.token_urlsafe(24)
    SignInLink.objects.create(
        member=member,
        token_hash=hash_secret(token),
        expires_at=timezone.now() + timedelta(hours=LINK_HOURS),
    )
    record(member=by, action="sign_in_link.create", subject=str(member))
    return token


@transaction.atomic
def consume_sign_in_link(*, token: str) -> Member | None:
    """Returns the member of the link, but only to the first caller; to others None."""
    if _usable_links(token).update(used_at=timezone.now()) != 1:
        return None
    link = SignInLink.objects.select_related("member").get(
        token_hash=hash_secret(token)
    )
    _end_links(link.member)
    record(member=link.member, action="sign_in_link.use", subject=str(link.member))
    return link.member


def _end_links(member: Member) -> None:
    """Ends the links of a member that were not used."""
    unused = SignInLink.objects.filter(member=member, used_at=None)
    unused.update(expires_at=timezone.now())


def is_usable_sign_in_link(*, token: str) -> bool:
    return _usable_links(token).exists()


def _usable_links(token: str) -> QuerySet[SignInLink]:
    """Returns the link of the token, if it can still sign its member in."""
    return SignInLink.objects.filter(
        token_hash=hash_secret(token),
        used_at=None,
        expires_at__gt=timezone.now(),
        member__is_active=True,
    )


@transaction.atomic
def set_password(*, member: Member, password: str) -> None:
    try:
        validate_password(password, member)
    except ValidationError as error:
        raise UserError(" ".join(error.messages), field="password") from None
    member.set_password(password)
    member.save(update_fields=["password"])
    record(member=member, action="member.password", subject=str(member))


@transaction.atomic
def set_role(*, member: Member, role: str, by: Member) -> None:
    if role not in Role.values:
        raise UserError(f"There is no role {role}.", field="role")
    if role == member.role:
        return
    _lock_admins()
    before, member.role = member.role, role
    member.save(update_fields=["role"])
    _check_an_admin_is_left()
    record(
        member=by,
        action="member.role",
        subject=str(member),
        **{"from": before, "to": role},
    )


@transaction.atomic
def deactivate_member(*, member: Member, by: Member) -> None:
    """Ends the member's sessions, streams, links and keys, also for the time when the
    member is activated again.
    """
    _lock_admins()
    member.is_active = False
    member.generation += 1
    member.save(update_fields=["is_active", "generation"])
    _check_an_admin_is_left()
    _end_links(member)
    keys = ApiKey.objects.filter(member=member, revoked_at=None)
    keys.update(revoked_at=timezone.now())
    record(member=by, action="member.deactivate", subject=str(member))


@transaction.atomic
def activate_member(*, member: Member, by: Member) -> None:
    member.is_active = True
    member.save(update_fields=["is_active"])
    record(member=by, action="member.activate", subject=str(member))


def _lock_admins() -> None:
    """Makes sure that of two admins who demote each other at once, one is refused."""
    admins = Member.objects.select_for_update().filter(role=Role.ADMIN)
    list(admins.order_by("pk"))


def _check_an_admin_is_left() -> None:
    if not Member.objects.filter(role=Role.ADMIN, is_active=True).exists():
        raise UserError(
            "This is the last active admin. Make another member admin first."
        )


@transaction.atomic
def create_api_key(*, member: Member, name: str = "", by: Member | None = None) -> str:
    """Returns the key, which is shown once and stored nowhere."""
    key = KEY_PREFIX + secrets.token_urlsafe(24)
    row = ApiKey(
        member=member,
        name=name.strip()[:80],
        prefix=key[:12],
        key_hash=hash_secret(key),
    )
    row.save()
    record(
        member=by or member, action="api_key.create", subject=row.prefix, name=row.name
    )
    return key


@transaction.atomic
def revoke_api_key(*, key: ApiKey, by: Member) -> None:
    unrevoked = ApiKey.objects.filter(pk=key.pk, revoked_at=None)
    if unrevoked.update(revoked_at=timezone.now()):
        record(member=by, action="api_key.revoke", subject=key.prefix, name=key.name)
