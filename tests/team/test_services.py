from datetime import timedelta

import pytest
from django.utils import timezone

from finetune_site.common.errors import UserError
from finetune_site.team import services
from finetune_site.team.models import ApiKey, AuditEntry, Member, Role, SignInLink


def test_a_link_works_once(member):
    token = services.create_sign_in_link(member=member)
    assert services.consume_sign_in_link(token=token) == member
    assert services.consume_sign_in_link(token=token) is None


def test_only_the_hash_of_a_link_is_kept(member):
    token = services.create_sign_in_link(member=member)
    assert SignInLink.objects.get().token_hash == services.hash_secret(token)
    assert token not in str(list(AuditEntry.objects.values()))


def test_an_old_link_does_not_work(member):
    token = services.create_sign_in_link(member=member)
    SignInLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert services.consume_sign_in_link(token=token) is None


def test_the_link_of_an_inactive_member_does_not_work(admin, member):
    token = services.create_sign_in_link(member=member)
    services.deactivate_member(member=member, by=admin)
    assert services.consume_sign_in_link(token=token) is None


def test_a_taken_name_is_refused_whatever_its_case(member):
    with pytest.raises(UserError) as error:
        services.create_member(username="Mia.Member")
    assert error.value.field == "username"


def test_a_name_with_forbidden_characters_is_refused(db):
    with pytest.raises(UserError) as error:
        services.create_member(username="<b>")
    assert error.value.field == "username"


def test_the_last_admin_keeps_the_role(admin):
    with pytest.raises(UserError, match="last active admin"):
        services.set_role(member=admin, role=Role.MEMBER, by=admin)
    assert Member.objects.get(pk=admin.pk).role == Role.ADMIN


def test_the_last_admin_stays_active(admin):
    with pytest.raises(UserError, match="last active admin"):
        services.deactivate_member(member=admin, by=admin)
    assert Member.objects.get(pk=admin.pk).is_active


def test_deactivating_revokes_the_keys(admin, member):
    services.create_api_key(member=member)
    services.deactivate_member(member=member, by=admin)
    assert ApiKey.objects.get().revoked_at


def test_a_key_is_kept_as_its_hash(member):
    key = services.create_api_key(member=member, name="notebook")
    row = ApiKey.objects.get()
    assert key.startswith("sk-ft-")
    assert (row.key_hash, row.prefix) == (services.hash_secret(key), key[:12])


def test_changes_are_in_the_audit_trail(admin, member):
    services.set_role(member=member, role=Role.VIEWER, by=admin)
    entry = AuditEntry.objects.get()
    assert (entry.member, entry.action) == (admin, "member.role")
    assert entry.detail == {"from": "member", "to": "viewer"}


def test_a_short_password_is_refused(member):
    with pytest.raises(UserError, match="too short"):
        services.set_password(member=member, password="abc")


@pytest.mark.parametrize(
    ("change", "choices"),
    [
        (services.create_sign_in_link, {}),
        (services.set_password, {"password": "long enough 42"}),
        (services.create_api_key, {}),
    ],
)
def test_a_change_that_cannot_be_recorded_is_none(member, monkeypatch, change, choices):
    def fail(**_):
        raise OSError

    before = Member.objects.get().password
    monkeypatch.setattr(services, "record", fail)
    with pytest.raises(OSError):
        change(member=member, **choices)
    assert Member.objects.get().password == before
    assert not SignInLink.objects.exists()
    assert not ApiKey.objects.exists()
