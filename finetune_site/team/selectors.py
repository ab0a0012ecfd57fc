"""Reads members, keys and the audit trail."""

from django.db.models import Case, IntegerField, QuerySet, When

from finetune_site.team.models import ApiKey, AuditEntry, Member, Role
from finetune_site.team.services import hash_secret


def list_members() -> QuerySet[Member]:
    """Returns active members first, and admins before members before viewers."""
    rank = Case(
        When(role=Role.ADMIN, then=0),
        When(role=Role.MEMBER, then=1),
        default=2,
        output_field=IntegerField(),
    )
    return Member.objects.order_by("-is_active", rank, "username")


def list_keys(member: Member) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(member=member, revoked_at=None).order_by("-id")


def find_key(token: str) -> ApiKey | None:
    """Returns the key of that token, if its member is active and it was not revoked."""
    return (
        ApiKey.objects.select_related("member")
        .filter(key_hash=hash_secret(token), revoked_at=None)
        .filter(member__is_active=True)
        .first()
    )


def list_audit_entries() -> QuerySet[AuditEntry]:
    return AuditEntry.objects.select_related("member")
