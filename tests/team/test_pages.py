import re

import pytest

from finetune_site.team import services, throttle
from finetune_site.team.models import ApiKey, Member, Role
from tests.support.factories import make_member


@pytest.fixture
def as_admin(client, admin):
    client.force_login(admin)
    return client


ADMIN_ADDRESSES = [
    "/team/members/",
    "/team/members/1/role/",
    "/team/members/1/active/",
    "/team/members/1/link/",
]


@pytest.mark.parametrize("address", ADMIN_ADDRESSES)
def test_only_admins_manage_members(client, member, address):
    client.force_login(member)
    answer = client.post(address, {"username": "new", "role": "admin"})
    assert answer.status_code == 403
    assert "Only admins" in answer.content.decode()


@pytest.mark.parametrize("address", ADMIN_ADDRESSES)
def test_changes_need_a_post(as_admin, address):
    assert as_admin.get(address).status_code == 405


def test_a_new_member_gets_a_link_that_works(as_admin, client):
    answer = as_admin.post("/team/members/", {"username": "new", "role": "viewer"})
    link = re.search(r"http://testserver(/sign-in/[\w-]+/)", answer.content.decode())
    as_admin.logout()
    assert client.post(link[1]).status_code == 302
    assert Member.objects.get(username="new").role == Role.VIEWER


def test_a_taken_name_is_said_beside_its_field(as_admin, member):
    data = {"username": member.username, "role": "viewer"}
    answer = as_admin.post("/team/members/", data)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "is taken" in page
    assert f'<a href="/team/#member-{member.pk}">Open it</a>' in page
    assert f'id="member-{member.pk}"' in page


def test_the_role_changes(as_admin, member):
    as_admin.post(f"/team/members/{member.pk}/role/", {"role": "viewer"})
    member.refresh_from_db()
    assert member.role == Role.VIEWER


def test_a_role_that_is_none_changes_nothing(as_admin, member):
    as_admin.post(f"/team/members/{member.pk}/role/", {"role": "king"})
    member.refresh_from_db()
    assert member.role == Role.MEMBER


def test_a_deactivated_member_is_out_at_once(as_admin, member, django_test_client):
    django_test_client.force_login(member)
    as_admin.post(f"/team/members/{member.pk}/active/")
    assert django_test_client.get("/team/").status_code == 302


@pytest.fixture
def django_test_client():
    from django.test import Client

    return Client()


def test_the_last_admin_is_told_why(as_admin, admin):
    answer = as_admin.post(f"/team/members/{admin.pk}/active/", follow=True)
    assert "last active admin" in answer.content.decode()


def test_a_viewer_sees_members_and_no_controls(client, viewer, admin):
    client.force_login(viewer)
    page = client.get("/team/").content.decode()
    assert admin.username in page
    assert "Deactivate" not in page
    assert client.get("/team/audit/").status_code == 403


def test_a_new_key_is_shown_once(client, viewer):
    client.force_login(viewer)
    page = client.post("/team/keys/", {"name": "notebook"}).content.decode()
    key = re.search(r"sk-ft-[\w-]+", page)[0]
    assert ApiKey.objects.get().key_hash == services.hash_secret(key)
    assert key not in client.get("/team/").content.decode()


def test_nobody_revokes_the_key_of_another(client, member):
    services.create_api_key(member=make_member("other"))
    client.force_login(member)
    address = f"/team/keys/{ApiKey.objects.get().pk}/revoke/"
    assert client.post(address).status_code == 404
    assert ApiKey.objects.get().revoked_at is None


def test_names_are_escaped(as_admin):
    make_member("<script>alert(1)</script>")
    assert "<script>alert" not in as_admin.get("/team/").content.decode()


def test_the_audit_trail_is_paged(as_admin, admin):
    for number in range(60):
        services.record(member=admin, action="test.note", subject=f"note {number}")
    second = as_admin.get("/team/audit/?page=2").content.decode()
    assert "note 5\n" in second
    assert "note 59\n" not in second


def test_the_audit_trail_says_where_nobody_was_signed_in(as_admin, member):
    services.create_sign_in_link(member=member)
    page = as_admin.get("/team/audit/").content.decode()
    assert "by the command line" in page
    throttle.note_failure("member", "10.0.0.7")
    assert "at the sign-in page" in as_admin.get("/team/audit/").content.decode()


def test_a_new_password_keeps_this_session(client, member):
    services.set_password(member=member, password="long enough 41")
    client.force_login(member)
    form = {"old": "long enough 41", "password": "long enough 42"}
    assert client.post("/team/password/", form).status_code == 302
    assert client.get("/team/").status_code == 200
