"""What the team's pages read."""

from django.db.models import Case, IntegerField, QuerySet, When

from finetune_site.team.models import ApiKey, AuditEntry, Member, Role


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


def list_audit_entries() -> QuerySet[AuditEntry]:
    return AuditEntry.objects.select_related("member")
