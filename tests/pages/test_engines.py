"""Engines as admins set them up: services, page, command, roles."""

import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from finetune_site.common.errors import UserError
from finetune_site.common.sealing import unseal
from finetune_site.team.models import AuditEntry
from finetune_site.team.services import create_api_key
from jobs.models import EngineSetting, Job
from jobs.services import engines as services
from jobs.services.jobs import left_elsewhere
from tests.support import factories
from tests.support.far_server import KEY, PATHS, refusal, running_far

Status = Job.Status


@pytest.fixture
def far():
    with running_far() as far:
        yield far


@pytest.fixture
def lab(far, admin) -> EngineSetting:
    return services.add_engine(
        member=admin, name="lab", url=far.url, key=KEY, allow_private=True
    )


def fields(far, **changed) -> dict:
    given = {"name": "lab", "url": far.url, "key": KEY, "allow_private": "on"}
    return {**given, **changed}


def page_of(response) -> str:
    return response.content.decode()


# ----- adding


def test_the_key_is_sealed_and_in_no_record(lab):
    assert KEY not in lab.sealed_key
    assert unseal(lab.sealed_key) == KEY
    entry = AuditEntry.objects.get(action="engine.add")
    assert (entry.subject, entry.detail["url"]) == ("lab", lab.url)
    assert KEY not in json.dumps(entry.detail)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "local"),
        ("name", "Lab 1"),
        ("name", "../x"),
        ("name", "taken"),
        ("name", "tiny"),
        ("url", ""),
        ("url", "lab.example.org/v1"),
        ("url", "http://127.0.0.1:8000"),
        ("url", "http://127.0.0.1:8000/v1?key=1"),
        ("url", "http://ada:pw@127.0.0.1:8000/v1"),
        ("url", "http://169.254.169.254/v1"),
        ("key", ""),
        ("key", "two words"),
        ("key", "schlüssel"),
        ("kind", "moon"),
    ],
)
def test_what_is_wrong_is_named(far, admin, field, value):
    EngineSetting.objects.create(name="taken", kind="local")
    given = {"name": "lab", "url": far.url, "key": KEY, field: value}
    with pytest.raises(UserError) as caught:
        services.add_engine(member=admin, allow_private=True, **given)
    assert caught.value.field == field


def test_a_private_address_has_to_be_allowed(far, admin):
    with pytest.raises(UserError, match="private network"):
        services.add_engine(member=admin, name="lab", url=far.url, key=KEY)


def test_a_key_of_this_very_site_is_refused(far, admin):
    key = create_api_key(member=admin)
    with pytest.raises(UserError, match="opens this very site"):
        services.add_engine(
            member=admin, name="lab", url=far.url, key=key, allow_private=True
        )


def test_a_slash_at_the_end_does_no_harm(far, admin):
    added = services.add_engine(
        member=admin, name="lab", url=f"{far.url}/", key=KEY, allow_private=True
    )
    assert added.url == far.url


# ----- checking


def test_a_good_engine(lab):
    assert "answers, takes the key" in services.check_engine(name="lab")
    assert EngineSetting.objects.get().last_answer_at


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"trouble": (200, b"<html>")}, "is not this API"),
        ({"trouble": refusal(404, "Nothing here.")}, "is not this API"),
        ({"trouble": refusal(401, "Who?")}, "does not accept the key"),
        ({"trouble": refusal(500, "Oh.")}, "cannot answer now"),
        ({"paths": PATHS[:-1]}, "older version of this software"),
    ],
)
def test_what_is_wrong_with_an_engine_is_said_and_kept(far, lab, fault, words):
    vars(far).update(fault)
    with pytest.raises(UserError, match=words):
        services.check_engine(name="lab")
    assert words in EngineSetting.objects.get().trouble


def test_an_engine_that_is_not_there(lab):
    EngineSetting.objects.update(url="http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="connection refused"):
        services.check_engine(name="lab")


# ----- removing


def test_an_engine_with_a_live_job_stays(lab, admin):
    job = factories.make_job(engine="lab", status=Status.PAUSED)
    with pytest.raises(UserError, match=f"such as {job}"):
        services.remove_engine(member=admin, name="lab")


def test_what_is_lost_by_removing_is_said(lab, admin):
    job = factories.make_job(engine="lab", status=Status.SUCCEEDED, far_uid="ftjob-1")
    factories.make_snapshot(job)
    said = services.remove_engine(member=admin, name="lab")
    assert "1 snapshot lies on it and cannot be asked" in said
    assert not EngineSetting.objects.exists()
    assert AuditEntry.objects.filter(action="engine.remove").exists()


def test_jobs_that_may_go_on_there_are_said(lab, admin):
    now = timezone.now()
    times = {"queued_at": now, "finished_at": now}
    ended = {"engine": "lab", "far_uid": "ftjob-1", **times}
    job = factories.make_job(status=Status.CANCELLED, **ended)
    known = factories.make_job(status=Status.CANCELLED, **ended)
    word = {"type": "status", "data": {"status": "cancelled"}}
    known.events.create(seq=1, time=now, **word)
    said = services.remove_engine(member=admin, name="lab")
    assert "1 job has ended here without its word, and may go on there" in said
    assert "not heard that the job ended there" in left_elsewhere(job)
    assert "not heard" not in left_elsewhere(known)


def test_a_snapshot_of_a_removed_engine_says_so_in_the_playground(client, member, db):
    job = factories.make_job(engine="gone", status=Status.SUCCEEDED, far_uid="ftjob-1")
    snapshot = factories.make_snapshot(job)
    client.force_login(member)
    answer = client.post(
        "/playground/answer/",
        {
            "model": snapshot.uid,
            "prompt": "a",
            "temperature": 1,
            "top_p": 1,
            "max_tokens": 4,
            "n": 1,
        },
    )
    assert "on the engine gone, which was removed" in page_of(answer)


# ----- the page


def test_an_admin_adds_an_engine(client, admin, far):
    client.force_login(admin)
    page = page_of(client.post(reverse("engine-add"), fields(far), follow=True))
    assert "It is added. lab answers, takes the key" in page
    assert far.url in page
    assert KEY not in page


def test_errors_stand_beside_their_fields_and_the_key_is_not_repeated(
    client, admin, far
):
    client.force_login(admin)
    answer = client.post(reverse("engine-add"), fields(far, name="Lab 1"))
    assert answer.status_code == 422
    assert 'id="id_name_error"' in page_of(answer)
    assert KEY not in page_of(answer)


def test_another_key(client, admin, far, lab):
    EngineSetting.objects.update(sealed_key="broken", trouble="Wrong key.")
    client.force_login(admin)
    answer = client.post(reverse("engine-key", args=["lab"]), {"key": KEY}, follow=True)
    assert "The key is changed. lab answers" in page_of(answer)
    assert EngineSetting.objects.get().trouble == ""


def test_an_admin_removes_an_engine(client, admin, lab):
    client.force_login(admin)
    answer = client.post(reverse("engine-remove", args=["lab"]), follow=True)
    assert "lab is removed." in page_of(answer)
    assert "No other engine yet" in page_of(answer)


@pytest.mark.parametrize("who", ["member", "viewer"])
def test_others_see_engines_but_not_their_keys(client, request, lab, who):
    client.force_login(request.getfixturevalue(who))
    page = page_of(client.get(reverse("engines")))
    assert lab.url in page
    assert lab.sealed_key not in page
    assert 'name="key"' not in page
    for name in ("engine-check", "engine-key", "engine-remove"):
        assert client.post(reverse(name, args=["lab"])).status_code == 403
    assert client.post(reverse("engine-add")).status_code == 403


def test_trouble_shows_by_itself(client, viewer, lab):
    EngineSetting.objects.update(trouble="The engine lab does not answer.")
    client.force_login(viewer)
    part = page_of(client.get(f"{reverse('engines')}?part=live"))
    assert "The engine lab does not answer." in part
    assert "<h1>" not in part


# ----- the form of a new job


def test_the_form_lists_engines(client, member, lab):
    factories.make_dataset()
    client.force_login(member)
    page = page_of(client.get(reverse("job-new")))
    assert '<option value="lab">lab</option>' in page
    assert "Fail after two minutes" in page


def test_without_another_server_nothing_is_asked_about_it(client, member, db):
    factories.make_dataset()
    client.force_login(member)
    assert "When that engine is away" not in page_of(client.get(reverse("job-new")))


# ----- the command


def run(*args: str) -> str:
    out = io.StringIO()
    call_command("engine", *args, stdout=out)
    return out.getvalue()


def test_the_command_adds_lists_checks_and_removes(far, db):
    url = ["--url", far.url, "--allow-private"]
    assert "lab answers" in run("add", "lab", "--kind", "remote", *url, "--key", KEY)
    listed = run("list")
    assert f"lab\tremote\t{far.url}" in listed
    assert KEY not in listed
    assert "lab answers" in run("check", "lab")
    assert "lab is removed." in run("remove", "lab")
    assert run("list").splitlines() == ["local\tlocal\tThis machine"]


def test_the_command_reads_the_key_from_standard_input(far, db, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    url = ["--url", far.url, "--allow-private"]
    assert "lab answers" in run("add", "lab", "--kind", "remote", *url, "--key", "-")


def test_the_command_adds_an_engine_that_is_away(db):
    url = ["--url", "http://127.0.0.1:9/v1", "--allow-private"]
    said = run("add", "lab", "--kind", "remote", *url, "--key", KEY)
    assert "It cannot be used yet. The engine lab does not answer" in said
    assert EngineSetting.objects.exists()


def test_the_command_says_what_is_wrong(db):
    with pytest.raises(CommandError, match="ends in /v1"):
        url = ["--url", "http://127.0.0.1:9/", "--allow-private"]
        run("add", "lab", "--kind", "remote", *url, "--key", KEY)


def test_the_command_adds_a_further_queue(db):
    assert "second is this machine" in run("add", "second", "--kind", "local")
    assert "second\tlocal\tThis machine, queue second" in run("list")
