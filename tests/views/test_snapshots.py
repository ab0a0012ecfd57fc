"""Deleting snapshots on their page."""

import pytest
from django.urls import reverse

from jobs.models import Job, Snapshot
from tests.support import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def snapshot(db):
    return factories.make_snapshot(factories.make_job(status=Job.Status.SUCCEEDED))


@pytest.fixture
def delete(client):
    def delete(who, snapshot, **form):
        client.force_login(who)
        address = reverse("snapshot-delete", args=[snapshot.pk])
        return client.post(address, form, follow=True)

    return delete


def test_a_member_deletes_a_snapshot(delete, member, snapshot):
    page = delete(member, snapshot).content.decode()
    assert "step 20 is deleted" in page
    assert not Snapshot.objects.exists()
    assert not snapshot.folder.exists()


def test_the_page_of_one_job_comes_back(delete, member, snapshot):
    answer = delete(member, snapshot, job=snapshot.job_id)
    assert answer.request["QUERY_STRING"] == f"job={snapshot.job_id}"


def test_a_viewer_deletes_none(delete, viewer, snapshot):
    assert delete(viewer, snapshot).status_code == 403
    assert Snapshot.objects.get() == snapshot


def test_what_was_trained_further_stays_and_the_page_says_why(delete, member, snapshot):
    factories.make_job(parent_snapshot=snapshot, name="Better jokes")
    page = delete(member, snapshot).content.decode()
    assert "Better jokes was trained from it" in page
    assert Snapshot.objects.get() == snapshot


@pytest.mark.parametrize(("status", "shown"), [("succeeded", True), ("running", False)])
def test_the_button_is_there_once_the_job_has_ended(client, member, status, shown):
    snapshot = factories.make_snapshot(factories.make_job(status=status))
    client.force_login(member)
    page = client.get(reverse("snapshots")).content.decode()
    assert (reverse("snapshot-delete", args=[snapshot.pk]) in page) is shown
