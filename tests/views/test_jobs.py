"""The pages of jobs: list, live signed_in, settings, and the buttons."""

from dataclasses import replace

import pytest
from django.urls import reverse

from jobs.history.curves import read_validation
from jobs.live.page import update
from jobs.models import Job
from jobs.services import jobs as services
from jobs.services.specs import build_spec
from jobs.trainer.contract.runfolder import RunFolder
from tests.support import factories

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'
ACTIONS = ["job-stop", "job-pause", "job-resume", "job-snapshot", "job-delete"]
PAGES = ["job", "job-settings", "job-parts", "job-figure"]


@pytest.fixture
def job(member) -> Job:
    return factories.make_job(status="running", created_by=member)


@pytest.fixture
def signed_in(client, member):
    client.force_login(member)
    return client


def add_event(job: Job, type_: str, step: int = 0, **data) -> None:
    job.last_seq += 1
    job.events.create(
        seq=job.last_seq, time="2026-11-22T12:00Z", type=type_, step=step, data=data
    )
    job.save(update_fields=["last_seq"])


def add_completion(job: Job, step: int, text: str, row: int = 0) -> None:
    prompt = job.prompts[row]
    add_event(
        job, "completion", step, prompt_index=row, prompt=prompt, index=0, text=text
    )


@pytest.mark.parametrize("name", PAGES)
def test_signed_out_goes_to_sign_in(client, job, name):
    answer = client.get(reverse(name, args=[job.pk]))
    assert answer.status_code == 302
    assert answer.url.startswith(reverse("sign-in"))


@pytest.mark.parametrize("name", PAGES)
def test_unknown_id_is_404(signed_in, name):
    assert signed_in.get(reverse(name, args=[987654])).status_code == 404


@pytest.mark.parametrize("name", PAGES)
def test_viewer_reads(client, viewer, job, name):
    client.force_login(viewer)
    assert client.get(reverse(name, args=[job.pk])).status_code == 200


@pytest.mark.parametrize("digits", ["9" * 30, "9" * 5000])
@pytest.mark.parametrize(
    ("name", "key"), [("job-parts", "after"), ("job-figure", "series")]
)
def test_numbers_beyond_all_rows_are_no_crash(signed_in, job, name, key, digits):
    address = reverse(name, args=[job.pk])
    assert signed_in.get(address, {key: digits}).status_code == 200
    assert signed_in.get(reverse("snapshots"), {"job": digits}).status_code == 404


def test_an_unknown_series_is_the_loss(signed_in, job):
    answer = signed_in.get(reverse("job-figure", args=[job.pk]), {"series": "\n"})
    assert answer["ETag"].endswith('-loss"')


@pytest.mark.parametrize("name", ACTIONS)
def test_viewer_changes_nothing(client, viewer, job, name):
    client.force_login(viewer)
    assert client.post(reverse(name, args=[job.pk])).status_code == 403
    job.refresh_from_db()
    assert (job.want, job.snapshot_requests) == ("run", 0)


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_want_post(signed_in, job, name):
    assert signed_in.get(reverse(name, args=[job.pk])).status_code == 405


def test_viewer_sees_no_buttons(client, viewer, job):
    client.force_login(viewer)
    answer = client.get(reverse("job", args=[job.pk]))
    assert b"formaction" not in answer.content


def test_stop_wants_the_job_stopped(signed_in, job):
    answer = signed_in.post(reverse("job-stop", args=[job.pk]))
    assert answer.url == reverse("job", args=[job.pk])
    job.refresh_from_db()
    assert job.want == "stop"


def test_script_gets_json_from_a_button(signed_in, job):
    url = reverse("job-snapshot", args=[job.pk])
    answer = signed_in.post(url, headers={"Accept": "application/json"})
    assert answer.json()["ok"] is True


def test_refused_action_says_why(signed_in, job):
    Job.objects.update(status="succeeded")
    answer = signed_in.post(reverse("job-stop", args=[job.pk]), follow=True)
    assert "has ended already" in answer.content.decode()


def test_delete_asks_only_finished_jobs(signed_in, job):
    signed_in.post(reverse("job-delete", args=[job.pk]))
    assert Job.objects.filter(pk=job.pk).exists()
    Job.objects.update(status="failed")
    signed_in.post(reverse("job-delete", args=[job.pk]))
    assert not Job.objects.filter(pk=job.pk).exists()


def test_running_jobs_come_first_in_the_list(signed_in, job):
    factories.make_job(name="newer, done", status="succeeded")
    found = signed_in.get(reverse("jobs")).context["page"].object_list
    assert [job.status for job in found] == ["running", "succeeded"]


def test_empty_list_leads_to_the_form(signed_in):
    assert reverse("job-new") in signed_in.get(reverse("jobs")).content.decode()


def test_list_part_is_the_table_alone(signed_in, job):
    text = signed_in.get(reverse("jobs"), {"part": "live"}).content.decode()
    assert job.name in text
    assert "<html" not in text


def test_hostile_completion_is_text_on_the_page(signed_in, job):
    add_completion(job, 0, HOSTILE)
    text = signed_in.get(reverse("job", args=[job.pk])).content.decode()
    assert "&lt;script&gt;alert" in text
    assert "<img src=x" not in text


def test_hostile_completion_is_text_in_an_update(signed_in, job):
    add_completion(job, 0, HOSTILE)
    [cell] = signed_in.get(reverse("job-parts", args=[job.pk])).json()["film"]["cells"]
    assert "<script" not in cell["html"]
    assert "&lt;script&gt;" in cell["html"]


def test_parts_equal_those_of_the_first_load(signed_in, job):
    add_event(job, "step", 1, loss=3.0, lr=0.001)
    first = signed_in.get(reverse("job", args=[job.pk])).context["parts"]
    update = signed_in.get(reverse("job-parts", args=[job.pk])).json()
    assert update["parts"] == first


def test_update_holds_only_what_is_newer(signed_in, job):
    add_completion(job, 0, "old answer")
    after = job.last_seq
    add_completion(job, 10, "new answer")
    url = reverse("job-parts", args=[job.pk])
    update = signed_in.get(url, {"after": after}).json()
    assert [cell["step"] for cell in update["film"]["cells"]] == [10]
    assert signed_in.get(url, {"after": update["seq"]}).json()["film"] is None


def test_all_completions_of_a_prompt_are_shown(signed_in):
    job = factories.make_job(status="running", num_completions=2)
    for index, text in enumerate(["first try", "second try"]):
        add_event(job, "completion", prompt_index=0, prompt="a", index=index, text=text)
    text = signed_in.get(reverse("job", args=[job.pk])).content.decode()
    assert "first try" in text
    assert "second try" in text


def test_long_film_shows_first_and_newest_columns(signed_in, monkeypatch):
    job = factories.make_job(status="running")
    for step in range(0, 700, 10):
        add_completion(job, step, f"answer at {step}.")
    url = reverse("job", args=[job.pk])
    film = signed_in.get(url).context["film"]
    assert film.columns[0].step == 0
    assert film.num_hidden == 9
    assert signed_in.get(url, {"film": "all"}).context["film"].num_hidden == 0


def test_log_tells_events_in_sentences(signed_in, job):
    add_event(job, "log", level="warning", message=HOSTILE)
    add_event(job, "step", 3, loss=2.345, lr=0.00012)
    text = signed_in.get(reverse("job", args=[job.pk])).content.decode()
    assert "Step 3: train loss 2.35, learning rate 0.00012" in text
    assert 'class="warn"' in text
    assert "<script>alert" not in text


def test_failed_job_says_why_and_shows_the_log(signed_in, job):
    Job.objects.update(status="failed", status_message="Out of memory. Try LoRA.")
    job.folder.mkdir(parents=True)
    (job.folder / "trainer.log").write_text("last words")
    text = signed_in.get(reverse("job", args=[job.pk])).content.decode()
    assert "Out of memory. Try LoRA." in text
    assert "last words" in text


def test_a_job_that_ended_early_says_at_which_step(signed_in):
    job = factories.make_job(
        status=Job.Status.SUCCEEDED,
        step=40,
        total_steps=120,
        status_message="Ended early at step 40 of 120: no better.",
    )
    text = signed_in.get(f"/jobs/{job.pk}/").content.decode()
    assert "<strong>Ended early at step 40 of 120</strong>" in text
    assert "no better" in text


def test_queued_job_says_how_many_are_ahead(signed_in, job):
    waiting = factories.make_job(status="queued")
    text = signed_in.get(reverse("job", args=[waiting.pk])).content.decode()
    assert "1 job ahead" in text
    assert "Queued, position 1" in text


def test_best_snapshot_wears_its_badge(signed_in, job):
    factories.make_snapshot(job, 20, best=True)
    factories.make_snapshot(job, 40)
    parts = signed_in.get(reverse("job", args=[job.pk])).context["parts"]
    assert parts["snapshots"].count("Best") == 1


def test_settings_left_to_the_site_are_said_to_be(signed_in, job):
    Job.objects.filter(pk=job.pk).update(auto=["epochs"])
    text = signed_in.get(reverse("job-settings", args=[job.pk])).content.decode()
    assert "chosen once the tokens are counted" in text


def test_settings_list_every_choice(signed_in, job):
    text = signed_in.get(reverse("job-settings", args=[job.pk])).content.decode()
    assert "× 1 (rate 0.0005)" in text
    assert f"?like={job.pk}" in text


def test_settings_tell_the_rate_that_was_trained_with(signed_in, job):
    spec = replace(build_spec(job), base_learning_rate=0.25)
    job.folder.mkdir(parents=True)
    spec.save(RunFolder(job.folder).spec)
    text = signed_in.get(reverse("job-settings", args=[job.pk])).content.decode()
    assert "× 1 (rate 0.25)" in text


def test_snapshots_page_filters_by_job(signed_in, job):
    shown = factories.make_snapshot(job, 20)
    other = factories.make_snapshot(factories.make_job(), 20)
    url = reverse("snapshots")
    assert other.uid in signed_in.get(url).content.decode()
    text = signed_in.get(url, {"job": job.pk}).content.decode()
    assert shown.uid in text
    assert other.uid not in text


@pytest.mark.parametrize("name", ["snapshots", "models", "engines"])
def test_lists_open_on_an_empty_site(signed_in, name):
    assert signed_in.get(reverse(name)).status_code == 200


def test_models_say_what_is_not_downloaded(signed_in):
    text = signed_in.get(reverse("models")).content.decode()
    assert text.count("Not downloaded") == 4


def test_advice_has_a_heading_a_text_and_a_link_to_help(signed_in, job):
    for step, loss in enumerate([3.0, 2.0, 2.2, 2.3, 2.5]):
        add_event(job, "validation", step, loss=loss)
    notice = signed_in.get(reverse("job", args=[job.pk])).context["parts"]["notice"]
    assert '<h2 id="advice">Validation loss has risen for 3 steps' in notice
    assert "<p>What follows is learned by heart" in notice
    assert '#overfitting">What is overfitting?</a>' in notice


def test_stopped_job_says_by_whom(signed_in, member, job):
    services.stop_job(member=member, job=job)
    Job.objects.filter(pk=job.pk).update(status="cancelled", step=3)
    text = signed_in.get(reverse("job", args=[job.pk])).content.decode()
    assert f"Stopped by <bdi>{member.display_name}</bdi> at step 3." in text
    assert "Cancelled" not in text


def test_parts_of_a_page_tell_of_the_same_moment(signed_in, job):
    """Events that came after the row was read are told with the next update."""
    add_event(job, "step", step=1, loss=3.0, learned_loss=3.0, lr=0.1)
    add_event(job, "validation", step=1, loss=2.5)
    told = update(job, after=0, can_work=True)
    late = Job.objects.get(pk=job.pk)
    add_event(late, "snapshot", step=2, id="tiny:late", best=False)
    add_event(late, "validation", step=2, loss=2.0)
    assert update(job, after=0, can_work=True) == told
    assert "tiny:late" not in told["log"]
    assert [point.value for point in read_validation(job)] == [2.5]
    assert "tiny:late" in update(late, after=told["seq"], can_work=True)["log"]
