"""Jobs on another server, which is a small one of the test's: what is sent, shown."""

from datetime import timedelta

import pytest
from django.utils import timezone

from finetune_site.errors import UserError
from finetune_site.sealing import seal
from jobs import remote_watch
from jobs.engines import far_api, remote
from jobs.engines.registry import LOCAL, engine_that_has, get_engine
from jobs.models import EngineSetting, Event, Job, Snapshot
from jobs.remote_watch import RemoteWatch, RemoteWatches
from jobs.services import jobs as services
from tests import factories
from tests.far_server import KEY, refusal, running_far
from tests.running_site import wait_for

Status = Job.Status


@pytest.fixture
def far(monkeypatch):
    """Looked at anew each time; a hurt engine is asked again at once."""
    monkeypatch.setattr(remote, "JOB_SECONDS", 0.0)
    monkeypatch.setattr(remote_watch, "pause_seconds", lambda num_failures: 0.0)
    with running_far() as far:
        yield far


@pytest.fixture
def lab(db, far) -> EngineSetting:
    return EngineSetting.objects.create(
        name="lab",
        kind=EngineSetting.Kind.REMOTE,
        url=far.url,
        sealed_key=seal(KEY),
        allow_private=True,
    )


@pytest.fixture
def job(lab) -> Job:
    return factories.make_job(engine="lab")


@pytest.fixture
def watch(lab) -> RemoteWatch:
    return RemoteWatch("lab")


def look(watch: RemoteWatch, job: Job) -> Job:
    watch.look()
    job.refresh_from_db()
    return job


@pytest.fixture
def running(far, watch, job) -> Job:
    look(watch, job)
    far.job["status"] = "running"
    far.add("status", status="running")
    far.add("step", **without_type(factories.step_event(1)))
    return look(watch, job)


def without_type(event: dict) -> dict:
    return {name: value for name, value in event.items() if name != "type"}


# ----- sending


def test_queued_job_is_created_on_the_other_side(far, watch, job):
    look(watch, job)
    assert (job.status, job.far_uid) == (Status.STARTING, far.job["id"])
    assert far.job["model"] == "tiny"
    assert far.job["n_epochs"] == job.epochs
    assert far.job["prompts"] == job.prompts
    assert far.job["metadata"] == {"client_job_id": job.uid}


def test_its_examples_arrive_as_they_are(far, watch, job):
    look(watch, job)
    assert [file["sha256"] for file in far.files] == [job.dataset_version.sha256]
    assert far.job["training_file"] == "file-1"


def test_a_file_that_is_there_already_is_not_sent_again(far, watch, job):
    far.files.append(
        {"id": "file-9", "sha256": job.dataset_version.sha256, "status": "processed"}
    )
    look(watch, job)
    assert far.job["training_file"] == "file-9"
    assert len(far.files) == 1


def test_validation_examples_are_sent_too(far, watch, lab):
    version = factories.make_dataset(examples=[[("One ", 0.5), ("two", 1.0)]])
    look(watch, factories.make_job(engine="lab", validation_version=version))
    assert far.job["validation_file"] == "file-2"


@pytest.mark.parametrize("call", ["POST fine_tuning/jobs", "POST files"])
def test_a_lost_answer_makes_no_second_job(far, watch, job, call):
    far.lost = [call]
    look(watch, job)
    assert (job.status, job.far_uid) == (Status.STARTING, "")
    look(watch, job)
    assert job.far_uid == far.job["id"]
    assert (len(far.jobs), len(far.files)) == (1, 1)


def test_a_watcher_killed_after_the_creation_finds_the_job_again(far, watch, job):
    look(watch, job)
    Job.objects.update(far_uid="")
    look(RemoteWatch("lab"), job)
    assert job.far_uid == far.job["id"]


def test_calls_share_a_connection(far, watch, job):
    for _ in range(5):
        look(watch, job)
    assert (far.num_connections, far.num_calls("GET") > 5) == (1, True)


def test_two_watchers_make_one_job(far, job):
    for watch in (RemoteWatch("lab"), RemoteWatch("lab")):
        look(watch, job)
    assert len(far.jobs) == 1


def test_a_refusal_of_the_other_side_ends_the_job_with_its_words(far, watch, job):
    far.models.clear()
    look(watch, job)
    assert job.status == Status.FAILED
    assert job.status_message == "There is no base model tiny."


def test_jobs_wait_for_room(far, watch, job):
    other = factories.make_job(engine="lab")
    look(watch, job)
    other.refresh_from_db()
    assert (len(far.jobs), other.status) == (1, Status.QUEUED)


def test_a_job_paused_while_it_is_sent_is_not_sent_on(far, watch, job, monkeypatch):
    monkeypatch.setattr(remote, "SENT_SECONDS", 0.0)
    find_file = far_api.FarApi.find_file

    def pause(self, sha256):
        services.pause_job(member=None, job=Job.objects.get())
        return find_file(self, sha256)

    monkeypatch.setattr(far_api.FarApi, "find_file", pause)
    look(watch, job)
    assert far.jobs == {}
    assert look(watch, job).status == Status.PAUSED


def test_a_missing_base_model_is_said_before_the_job_is_made(far, lab, member):
    far.models.clear()
    with pytest.raises(UserError, match="lab has no base model tiny"):
        services.create_job(
            member=member,
            name="",
            dataset_version=factories.make_dataset(),
            base_model="tiny",
            engine="lab",
        )


def test_a_job_is_made_while_its_engine_is_away(far, lab, member):
    far.trouble = refusal(503, "Not now.")
    job = services.create_job(
        member=member,
        name="",
        dataset_version=factories.make_dataset(),
        base_model="tiny",
        engine="lab",
    )
    assert job.status == Status.VALIDATING


# ----- following


def test_events_become_rows_with_the_same_numbers(far, running):
    events = Event.objects.filter(job=running).values_list("seq", "type")
    assert list(events) == [(1, "status"), (2, "step")]
    assert (running.status, running.step) == (Status.RUNNING, 1)
    assert running.learned_loss == 3.0


def test_only_what_is_new_is_asked_for(far, watch, running):
    far.add("step", **without_type(factories.step_event(2)))
    far.calls.clear()
    assert look(watch, running).step == 2
    assert far.num_calls(f"GET fine_tuning/jobs/{running.far_uid}/events") == 1


def test_many_events_come_in_one_look(far, watch, running, monkeypatch):
    monkeypatch.setattr(far_api, "EVENTS_PER_PAGE", 3)
    for step in range(2, 12):
        far.add("step", **without_type(factories.step_event(step)))
    assert look(watch, running).step == 11
    assert running.events.count() == 12


def test_a_watcher_killed_meanwhile_goes_on_from_the_rows(far, running):
    far.add("step", **without_type(factories.step_event(2)))
    look(RemoteWatch("lab"), running)
    assert list(running.events.values_list("seq", flat=True)) == [1, 2, 3]


def test_a_gap_in_the_events_ends_the_job_in_words(far, watch, running):
    far.lines[running.far_uid].append({"seq": 9, "time": 1.0, "type": "log"})
    look(watch, running)
    assert running.status == Status.FAILED
    assert "Events are missing on the engine lab after number 2" in (
        running.status_message
    )


def test_the_other_sides_words_are_shown(far, watch, running):
    far.job["status_message"] = "The trainer ended at step 1; it is started again."
    assert look(watch, running).status_message == far.job["status_message"]


def test_waiting_there_is_no_death(far, watch, job):
    look(watch, job)
    far.job["status"] = "validating_files"
    look(watch, job)
    assert (job.status, job.deaths) == (Status.STARTING, 0)
    assert "lab has the job and counts its tokens" in job.status_message


def test_the_final_event_ends_the_job(far, watch, running):
    far.job["status"] = "succeeded"
    far.add("status", status="succeeded", message="")
    look(watch, running)
    assert running.status == Status.SUCCEEDED
    assert running.finished_at


def test_a_far_job_that_ends_without_a_word_ends_here_in_words(far, watch, running):
    far.job.update(status="failed", error={"message": "The trainer ended 3 times."})
    look(watch, running)
    assert running.status == Status.FAILED
    assert running.status_message == (
        "The engine lab ended this job: it is failed there. The trainer ended 3 times."
    )


def test_a_far_job_that_was_deleted_ends_here_in_words(far, watch, running):
    far.jobs.clear()
    look(watch, running)
    assert running.status == Status.FAILED
    assert "it was deleted there" in running.status_message


def test_the_plan_of_the_other_side_counts(far, watch, running):
    far.job["total_steps"] = 24
    assert look(watch, running).total_steps == 24


# ----- what people want


def test_pause_and_resume(far, watch, running, member):
    services.pause_job(member=member, job=running)
    look(watch, running)
    assert far.job["status"] == "paused"
    far.add("status", status="paused", message="")
    assert look(watch, running).status == Status.PAUSED
    services.resume_job(member=member, job=running)
    look(watch, running)
    assert (far.job["status"], running.status) == ("queued", Status.STARTING)
    far.job["status"] = "running"
    assert look(watch, running).status == Status.RUNNING


def test_a_pause_before_the_start_needs_no_event(far, watch, job, member):
    look(watch, job)
    services.pause_job(member=member, job=job)
    look(watch, job)
    assert look(watch, job).status == Status.PAUSED


def test_a_pause_made_on_the_other_side_stays_one(far, watch, running):
    far.job["status"] = "paused"
    far.add("status", status="paused", message="")
    look(watch, running)
    assert (running.status, running.want) == (Status.PAUSED, Job.Want.PAUSE)
    assert running.status_message == "It was paused on the engine lab."
    assert far.num_calls(f"POST fine_tuning/jobs/{running.far_uid}/resume") == 0


def test_a_pause_that_was_taken_back_does_not_stay(far, watch, running, member):
    services.pause_job(member=member, job=running)
    look(watch, running)
    services.resume_job(member=member, job=running)
    far.add("status", status="paused", message="")
    look(watch, running)
    look(watch, running)
    assert far.job["status"] == "queued"
    assert running.want == Job.Want.RUN


def test_stop(far, watch, running, member):
    services.stop_job(member=member, job=running)
    look(watch, running)
    assert far.job["status"] == "cancelled"
    far.add("status", status="cancelled", message="")
    look(watch, running)
    assert (running.status, running.status_message) == (Status.CANCELLED, "")


def test_a_job_stopped_before_it_was_sent_is_never_sent(far, watch, job, member):
    far.trouble = refusal(503, "Not now.")
    look(watch, job)
    services.stop_job(member=member, job=job)
    far.trouble = None
    look(watch, job)
    assert (job.status, far.jobs) == (Status.CANCELLED, {})


def test_a_snapshot_is_asked_for_once(far, watch, running, member):
    services.request_snapshot(member=member, job=running)
    for _ in range(3):
        look(watch, running)
    asked = [body for path, body in far.bodies if path.endswith("/snapshots")]
    assert asked == [{"requests": 1}]


def test_a_snapshot_is_asked_for_beside_those_of_people_there(
    far, watch, running, member
):
    far.job["snapshot_requests"] = 3
    for total in (4, 5):
        services.request_snapshot(member=member, job=running)
        look(watch, running)
        assert far.job["snapshot_requests"] == total


@pytest.mark.parametrize("another", [False, True])
def test_a_lost_answer_asks_for_no_second_snapshot(
    far, watch, running, member, another
):
    far.job["snapshot_requests"] = 3
    services.request_snapshot(member=member, job=running)
    far.lost = [f"POST fine_tuning/jobs/{running.far_uid}/snapshots"]
    look(watch, running)
    look(RemoteWatch("lab") if another else watch, running)
    assert far.job["snapshot_requests"] == 4


def test_another_key_forgets_no_snapshot(far, watch, running, member):
    far.job["snapshot_requests"] = 3
    services.request_snapshot(member=member, job=running)
    EngineSetting.objects.update(sealed_key=seal("sk-wrong"))
    look(watch, running)
    EngineSetting.objects.update(sealed_key=seal(KEY))
    look(watch, running)
    assert far.job["snapshot_requests"] == 4


def test_a_second_watcher_asks_for_what_the_first_did_not(far, running, member):
    services.request_snapshot(member=member, job=running)
    look(RemoteWatch("lab"), running)
    services.request_snapshot(member=member, job=running)
    look(RemoteWatch("lab"), running)
    assert far.job["snapshot_requests"] == 2


# ----- engines that are away


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (refusal(503, "Full."), "cannot answer now (503): Full."),
        (refusal(429, "Slower."), "cannot answer now (429): Slower."),
        ((200, b"<html>"), "is not this API (200)"),
        ((404, b"<html>"), "is not this API (404)"),
        ((302, b""), "sends this site on to another address"),
        (refusal(403, "You are a viewer."), "It says: You are a viewer."),
    ],
)
def test_trouble_is_said_in_words_and_passes(far, watch, running, trouble, words):
    far.trouble = trouble
    look(watch, running)
    assert running.status == Status.RUNNING
    assert words in running.status_message
    assert "Tried 1 time since" in running.status_message
    assert words in EngineSetting.objects.get().trouble
    far.trouble = None
    far.add("step", **without_type(factories.step_event(2)))
    look(watch, running)
    assert (running.step, running.status_message) == (2, "")
    assert EngineSetting.objects.get().trouble == ""


def test_a_wrong_key_is_said_and_heals(far, watch, job):
    EngineSetting.objects.update(sealed_key=seal("sk-wrong"))
    look(watch, job)
    assert "does not accept the key" in job.status_message
    assert "sk-wrong" not in job.status_message
    EngineSetting.objects.update(sealed_key=seal(KEY))
    assert look(watch, job).far_uid == far.job["id"]


def test_a_key_sealed_under_another_secret_is_trouble(far, watch, job):
    EngineSetting.objects.update(sealed_key="gAAAA")
    assert "SECRET_KEY has changed" in look(watch, job).status_message


def test_no_answer_at_all(watch, job):
    EngineSetting.objects.update(url="http://127.0.0.1:9/v1")
    words = look(watch, job).status_message
    assert "does not answer at http://127.0.0.1:9: Connection refused." in words


def test_an_answer_that_takes_too_long(far, watch, running, monkeypatch):
    monkeypatch.setattr(far_api, "TIMEOUT", (1.0, 0.1))
    far.hang_seconds = 0.5
    assert "it took too long" in look(watch, running).status_message


def test_a_private_address_that_is_not_allowed_is_not_asked(far, watch, job):
    EngineSetting.objects.update(allow_private=False)
    assert "private network" in look(watch, job).status_message
    assert far.calls == []


def test_a_job_may_fail_when_its_engine_is_away(far, watch, job):
    Job.objects.update(when_engine_away=Job.WhenEngineAway.FAIL)
    far.trouble = refusal(503, "Full.")
    look(watch, job)
    assert (job.status, job.is_final) == (Status.STARTING, False)
    assert "the job fails" in job.status_message
    long_ago = timezone.now() - timedelta(seconds=121)
    watch.away_since = long_ago
    assert look(watch, job).status == Status.STARTING
    Job.objects.update(claimed_at=long_ago)
    look(watch, job)
    assert job.status == Status.FAILED
    assert "again and again for about 2\xa0min, and this job was to fail then" in (
        job.status_message
    )


def away_for_long(watch: RemoteWatch) -> None:
    watch.away_since = timezone.now() - timedelta(seconds=121)
    Job.objects.update(claimed_at=watch.away_since)


def test_a_job_stopped_while_its_engine_is_away_ends(far, watch, running, member):
    far.trouble = refusal(503, "Full.")
    services.stop_job(member=member, job=running)
    look(watch, running)
    assert running.is_live
    assert "the job counts as cancelled" in running.status_message
    away_for_long(watch)
    look(watch, running)
    assert running.status == Status.CANCELLED
    assert "It is stopped there once it answers" in running.status_message
    far.trouble = None
    sweep(watch)
    assert far.job["status"] == "cancelled"


def test_a_job_paused_while_its_engine_is_away_waits(far, watch, running, member):
    far.trouble = refusal(503, "Full.")
    services.pause_job(member=member, job=running)
    away_for_long(watch)
    look(watch, running)
    assert running.is_live
    assert "The job is paused there once the engine answers." in running.status_message


def test_it_is_asked_less_often_while_it_is_away(far, watch, job, monkeypatch):
    monkeypatch.setattr(remote_watch, "pause_seconds", lambda num_failures: 60.0)
    far.trouble = refusal(503, "Full.")
    for _ in range(5):
        look(watch, job)
    assert len(far.calls) == 1


@pytest.mark.parametrize("num", [1, 3, 50])
def test_pauses_grow_to_a_limit(num):
    pause = remote_watch.pause_seconds(num)
    longest = min(0.5 * 2**num, remote_watch.MAX_PAUSE_SECONDS)
    assert longest / 2 <= pause <= longest


def test_what_ended_here_meanwhile_ends_there_later(far, watch, running):
    Job.objects.update(status=Status.FAILED, finished_at=timezone.now())
    sweep(watch)
    assert far.job["status"] == "cancelled"
    # Looked at until that is seen, and never again.
    sweep(watch)
    far.calls.clear()
    sweep(watch)
    assert far.calls == []


def sweep(watch: RemoteWatch) -> None:
    watch.strays_at = 0.0
    watch.look()


def test_an_idle_engine_is_asked_now_and_then(far, watch):
    watch.look()
    watch.look()
    assert far.num_calls("GET") == 1
    assert EngineSetting.objects.get().last_answer_at


def test_the_watch_ends_with_its_engine(watch):
    assert watch.look()
    EngineSetting.objects.all().delete()
    assert not watch.look()


@pytest.mark.django_db(transaction=True)
def test_each_engine_has_a_thread_that_ends_with_it(far, lab):
    EngineSetting.objects.create(
        name="dead", kind="remote", url="http://127.0.0.1:9/v1"
    )
    watches = RemoteWatches()
    watches.keep()
    wait_for(lambda: far.calls, 10, "a question to the engine that lives")
    EngineSetting.objects.filter(name="dead").delete()
    wait_for(lambda: not watches.threads["dead"].is_alive(), 10, "the end of one")
    assert watches.threads["lab"].is_alive()
    watches.stop()
    assert not watches.threads["lab"].is_alive()


# ----- snapshots


def snapshot_line(far) -> dict:
    return {
        "step": 1,
        "id": "tiny:2026-11-23.snap-" + "1" * 24,
        "path": "snapshots/1",
        "sha256": "0" * 64,
        "num_bytes": 10,
        "best": True,
        "learned_loss": 2.5,
        "validation_loss": None,
    }


@pytest.fixture
def snapshot(far, watch, running) -> Snapshot:
    far.add("snapshot", **snapshot_line(far))
    far.job["status"] = "succeeded"
    far.add("status", status="succeeded", message="")
    look(watch, running)
    return Snapshot.objects.get()


def test_a_far_snapshot_is_a_row_without_files(snapshot, running):
    assert snapshot.job == running
    assert not snapshot.is_here
    assert not running.folder.exists()


@pytest.mark.parametrize("page", ["/snapshots/", "/playground/", "/jobs/", "/"])
def test_pages_cope_with_it(client, member, snapshot, page):
    client.force_login(member)
    assert client.get(page).status_code == 200


def test_the_jobs_pages_cope_with_it(client, member, snapshot):
    client.force_login(member)
    page = client.get(f"/jobs/{snapshot.job_id}/")
    assert "<span>lab</span>" in page.content.decode()
    settings = client.get(f"/jobs/{snapshot.job_id}/settings/")
    assert "The engine lab keeps its own copy" in settings.content.decode()


def test_training_further_stays_on_its_engine(far, watch, snapshot, member):
    far.models.add(snapshot.uid)
    further = {
        "member": member,
        "name": "",
        "dataset_version": snapshot.job.dataset_version,
        "parent_snapshot": snapshot,
    }
    with pytest.raises(UserError, match="so only lab can train it further"):
        services.create_job(engine="local", **further)
    job = services.create_job(engine="lab", **further)
    Job.objects.filter(pk=job.pk).update(status=Status.QUEUED)
    look(watch, job)
    assert far.jobs[job.far_uid]["model"] == snapshot.uid


def test_a_snapshot_of_this_machine_is_not_trained_elsewhere(lab, member):
    snapshot = factories.make_snapshot(factories.make_job())
    with pytest.raises(UserError, match="so only local can train it further"):
        services.create_job(
            member=member,
            name="",
            dataset_version=snapshot.job.dataset_version,
            parent_snapshot=snapshot,
            engine="lab",
        )


def test_a_job_that_may_go_on_there_is_not_said_to_have_ended(
    client, member, watch, running
):
    Job.objects.update(status=Status.FAILED, finished_at=timezone.now())
    client.force_login(member)
    page = client.get(f"/jobs/{running.pk}/settings/").content.decode()
    assert "This site has not heard that the job ended there" in page
    deleted = client.post(f"/jobs/{running.pk}/delete/", follow=True)
    assert "only people there can stop it" in deleted.content.decode()


def test_deleting_the_job_leaves_the_far_one(far, snapshot, member):
    services.delete_job(member=member, job=snapshot.job)
    assert Job.objects.count() == 0
    assert len(far.jobs) == 1


def test_a_local_engine_by_another_name_is_a_queue_of_its_own(db):
    EngineSetting.objects.create(name="second", kind=EngineSetting.Kind.LOCAL)
    engine = get_engine("second")
    assert (engine.name, engine.is_remote) == ("second", False)


# ----- engines whose name another one had


@pytest.fixture
def kept(db) -> Snapshot:
    """Of a queue of this machine that was removed."""
    return factories.make_snapshot(factories.make_job(engine="lab"))


def further(snapshot: Snapshot, member, engine: str) -> Job:
    return services.create_job(
        member=member,
        name="",
        dataset_version=snapshot.job.dataset_version,
        parent_snapshot=snapshot,
        engine=engine,
    )


def test_a_removed_queues_snapshots_stay_askable_here(kept, member):
    assert engine_that_has(kept) is LOCAL
    assert further(kept, member, "local").engine == "local"


def test_a_server_of_a_removed_queues_name_gets_none_of_its_snapshots(
    kept, lab, member
):
    assert engine_that_has(kept) is LOCAL
    with pytest.raises(UserError, match="so only local can train it further"):
        further(kept, member, "lab")


def test_a_queue_of_a_removed_servers_name_opens_none_of_its_snapshots(
    snapshot, member
):
    EngineSetting.objects.update(kind=EngineSetting.Kind.LOCAL)
    with pytest.raises(UserError, match="lies on the engine lab, which was removed"):
        engine_that_has(snapshot)
    with pytest.raises(UserError, match="lies on the engine lab, which was removed"):
        further(snapshot, member, "lab")
