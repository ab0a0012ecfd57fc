from datetime import timedelta

import pytest
from django.utils import timezone

from datasets.models import Dataset
from finetune_site.home import read_home
from jobs.charts.mini import draw_mini_chart
from jobs.models import Event
from tests.support.factories import (
    make_dataset,
    make_job,
    make_snapshot,
    step_event,
)


@pytest.fixture
def home(client, member):
    client.force_login(member)
    return lambda query="": client.get(f"/{query}")


def make_events(job, *events):
    now = timezone.now()
    for seq, data in enumerate(events, 1):
        kind, step = data.pop("type"), data["step"]
        Event.objects.create(
            job=job, seq=seq, time=now, type=kind, step=step, data=data
        )
    job.last_seq = len(events)
    job.save()


def make_running_job(**fields):
    job = make_job(
        name="Jokes, gentle", status="running", step=3, total_steps=10, **fields
    )
    make_events(
        job,
        *[step_event(step, loss=4.0 - step) for step in (1, 2, 3)],
        {"type": "validation", "step": 2, "loss": 2.5, "learned_loss": 2.5},
        {
            "type": "completion",
            "step": 2,
            "prompt_index": 0,
            "prompt": "<joke>",
            "index": 0,
            "text": "<b>Ha</b>",
        },
    )
    return job


def test_home_needs_sign_in(client, db):
    assert client.get("/").status_code == 302


def test_home_of_a_new_team_says_what_to_do_first(home):
    page = home().content.decode()
    assert "No job is running" in page
    assert "Upload a dataset" in page
    assert 'aria-current="step"' in page


def test_home_shows_the_running_job_with_chart_and_completion(home):
    make_running_job(seconds_per_step=6.0)
    page = home().content.decode()
    assert "Train loss fell from 3.00 to 1.00 in 3 steps." in page
    assert "0:42 left" in page
    assert "&lt;b&gt;Ha&lt;/b&gt;" in page


def test_home_names_what_waits(home):
    make_job(name="Capitals only")
    page = home().content.decode()
    assert "<strong>Next:</strong>" in page
    assert "One job is waiting." in page


def test_home_says_when_the_next_job_starts(home):
    make_running_job(seconds_per_step=6.0)
    make_job(name="Capitals only")
    assert "starts in about 40\u00a0s" in home().content.decode()


def test_home_lists_what_finished_with_its_best_snapshot(home):
    job = make_job(
        name="Quick look",
        status="succeeded",
        finished_at=timezone.now() - timedelta(minutes=12),
        first_learned_loss=4.0,
        learned_loss=3.0,
    )
    snapshot = make_snapshot(job, step=90, best=True)
    page = home().content.decode()
    assert "4.00 → 3.00" in page
    assert "25\u00a0% lower" in page
    assert f"snapshot={snapshot.uid.replace(':', '%3A')}" in page


def test_home_says_why_a_job_failed(home):
    make_job(status="failed", status_message="Needed 9 GB.", finished_at=timezone.now())
    assert "Needed 9 GB." in home().content.decode()


def test_live_part_holds_only_what_changes(home):
    make_running_job()
    page = home("?part=live").content.decode()
    assert "<html" not in page
    assert 'id="home-running"' in page
    assert 'id="side-job"' in page


def test_viewer_is_offered_nothing_to_change(client, viewer):
    client.force_login(viewer)
    page = client.get("/").content.decode()
    assert "New job" not in page
    assert "Upload a dataset" not in page


def test_first_steps_follow_the_member(home, member):
    version = make_dataset("Jokes", created_by=member)
    page = home().content.decode()
    assert f"Jokes: {version.num_examples} examples" in page
    assert "Look at the weights" in page


def test_first_steps_say_what_is_learned(home, member):
    part = {"segments": 4, "characters": 50}
    shares = [
        {"position": 0, "last": False, "weight": 0.1, **part},
        {"position": 1, "last": True, "weight": 0.9, **part},
    ]
    make_dataset("Capitals", shares=shares, created_by=member)
    page = home().content.decode()
    assert "Learns 90\u00a0% from last segments, 10\u00a0% from first segments" in page


def test_first_steps_end_at_the_playground(home, client, member):
    make_snapshot(make_job(status="running", created_by=member), step=20)
    assert "The snapshot of step 20 is ready" in home().content.decode()
    session = client.session
    session["tried_snapshot"] = True
    session.save()
    assert "You have asked a snapshot" in home().content.decode()


def test_first_steps_are_not_done_by_others_by_samples_or_by_failures(home, member):
    make_job(created_by=member, is_sample=True)
    make_job(created_by=member, status="failed")
    make_snapshot(make_job(status="running"))
    sample = make_dataset("Sample", created_by=member)
    Dataset.objects.filter(versions=sample).update(is_sample=True)
    page = home().content.decode()
    assert 'class="done"' not in page
    assert "<h1><span>Welcome, " in page


def test_welcome_back_is_for_those_who_were_here(home, member):
    assert "kept as snapshots" in home().content.decode()
    make_dataset("Mine", created_by=member)
    page = home().content.decode()
    assert "Welcome back" in page
    assert "kept as snapshots" not in page


def test_first_steps_can_be_hidden(client, home):
    response = client.post("/first-steps/hide/")
    assert response.status_code == 302
    assert "in four steps" not in home().content.decode()


def test_first_steps_leave_a_member_who_knows_them(home, member):
    for _ in range(3):
        now = timezone.now()
        make_job(status="succeeded", finished_at=now, created_by=member)
    assert "in four steps" not in home().content.decode()


@pytest.mark.django_db
def test_headline_counts_what_runs_waits_and_finished():
    for status in ("running", "queued", "queued", "paused"):
        make_job(status=status)
    make_job(status="failed", finished_at=timezone.now())
    assert read_home().headline == (
        "One job is running, two are waiting and one is paused. "
        "One finished in the last 24 hours."
    )


@pytest.mark.django_db
def test_headline_of_a_quiet_site():
    assert read_home().headline == "Nothing is running."


@pytest.mark.django_db
def test_mini_chart_waits_for_two_steps():
    job = make_job(status="running", step=1, total_steps=10)
    make_events(job, step_event(1))
    assert draw_mini_chart(job) is None


@pytest.mark.django_db
def test_mini_chart_stays_small():
    job = make_job(status="running", step=500, total_steps=1000)
    make_events(job, *[step_event(step, loss=5 / step) for step in range(1, 501)])
    chart = draw_mini_chart(job)
    assert chart.raw.count(" ") < 300
    assert chart.done_percent == 50


def test_home_takes_few_queries(home, django_assert_max_num_queries):
    make_running_job()
    for _ in range(5):
        make_job(status="succeeded", finished_at=timezone.now())
    with django_assert_max_num_queries(22):
        home()


def test_first_steps_name_a_training_dataset(home, member):
    for name in ("Capitals", "Capitals, validation"):
        make_dataset(name, created_by=member)
    assert "Capitals: " in home().content.decode()


def test_first_steps_take_a_validation_dataset_for_want_of_another(home, member):
    make_dataset("Capitals, validation", created_by=member)
    assert "Capitals, validation: " in home().content.decode()
