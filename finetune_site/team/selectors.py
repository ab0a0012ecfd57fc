"""What is read of the team: for its pages, and of whoever asks."""

from django.db.models import Case, IntegerField, QuerySet, When

from finetune_site.team.models import ApiKey, AuditEntry, Member, Role
from finetune_site.team.services import hash_secret


def list_members() -> QuerySet[Member]:
    """Active first; among them admins, members, viewers."""
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
    """Of an active member, unless it was revoked."""
    return (
        ApiKey.objects.select_related("member")
        .filter(key_hash=hash_secret(token), revoked_at=None)
        .filter(member__is_active=True)
        .first()
    )


def list_audit_entries() -> QuerySet[AuditEntry]:
    return AuditEntry.objects.select_related("member")
