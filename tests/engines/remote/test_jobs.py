"""Jobs on another server: what is sent, what is shown, what people want."""

import pytest

from finetune_site.common.errors import UserError
from finetune_site.common.sealing import seal
from jobs.engines import far_api, sending
from jobs.models import EngineSetting, Event, Job
from jobs.services import jobs as services
from tests.engines.remote.looking import look, new_loop
from tests.support import factories
from tests.support.factories import create_job
from tests.support.far_server import KEY, refusal

Status = Job.Status


# ----- sending


def test_queued_job_is_created_on_the_other_side(far, loop, job):
    look(loop, job)
    assert (job.status, job.far_uid) == (Status.STARTING, far.job["id"])
    assert far.job["model"] == "tiny"
    assert far.job["n_epochs"] == job.epochs
    assert far.job["prompts"] == job.prompts
    assert far.job["metadata"] == {"client_job_id": job.uid}


def test_its_examples_arrive_as_they_are(far, loop, job):
    look(loop, job)
    assert [file["sha256"] for file in far.files] == [job.dataset_version.sha256]
    assert far.job["training_file"] == "file-1"


def test_a_file_that_is_there_already_is_not_sent_again(far, loop, job):
    far.files.append(
        {"id": "file-9", "sha256": job.dataset_version.sha256, "status": "processed"}
    )
    look(loop, job)
    assert far.job["training_file"] == "file-9"
    assert len(far.files) == 1


def test_validation_examples_are_sent_too(far, loop, lab):
    version = factories.make_dataset(examples=[[("One ", 0.5), ("two", 1.0)]])
    look(loop, factories.make_job(engine="lab", validation_version=version))
    assert far.job["validation_file"] == "file-2"


@pytest.mark.parametrize("call", ["POST fine_tuning/jobs", "POST files"])
def test_a_lost_answer_makes_no_second_job(far, loop, job, call):
    far.lost = [call]
    look(loop, job)
    assert (job.status, job.far_uid) == (Status.STARTING, "")
    look(loop, job)
    assert job.far_uid == far.job["id"]
    assert (len(far.jobs), len(far.files)) == (1, 1)


def test_a_watcher_killed_after_the_creation_finds_the_job_again(far, loop, job):
    look(loop, job)
    Job.objects.update(far_uid="")
    look(new_loop(), job)
    assert job.far_uid == far.job["id"]


def test_calls_share_a_connection(far, loop, job):
    for _ in range(5):
        look(loop, job)
    assert (far.num_connections, far.num_calls("GET") > 5) == (1, True)


def test_two_watchers_make_one_job(far, job):
    for loop in (new_loop(), new_loop()):
        look(loop, job)
    assert len(far.jobs) == 1


def test_a_refusal_of_the_other_side_ends_the_job_with_its_words(far, loop, job):
    far.models.clear()
    look(loop, job)
    assert job.status == Status.FAILED
    assert job.status_message == "There is no base model tiny."


def test_jobs_wait_for_room(far, loop, job):
    other = factories.make_job(engine="lab")
    look(loop, job)
    other.refresh_from_db()
    assert (len(far.jobs), other.status) == (1, Status.QUEUED)


def test_a_job_paused_while_it_is_sent_is_not_sent_on(far, loop, job, monkeypatch):
    monkeypatch.setattr(sending, "SENT_SECONDS", 0.0)
    find_file = far_api.FarApi.find_file

    def pause(self, sha256):
        services.pause_job(member=None, job=Job.objects.get())
        return find_file(self, sha256)

    monkeypatch.setattr(far_api.FarApi, "find_file", pause)
    look(loop, job)
    assert far.jobs == {}
    assert look(loop, job).status == Status.PAUSED


def test_a_missing_base_model_is_said_before_the_job_is_made(far, lab, member):
    far.models.clear()
    with pytest.raises(UserError, match="lab has no base model tiny"):
        create_job(
            member=member,
            name="",
            dataset_version=factories.make_dataset(),
            base_model="tiny",
            engine="lab",
        )


def test_a_job_is_made_while_its_engine_is_away(far, lab, member):
    far.trouble = refusal(503, "Not now.")
    job = create_job(
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


def test_only_what_is_new_is_asked_for(far, loop, running):
    far.add_step(2)
    far.calls.clear()
    assert look(loop, running).step == 2
    assert far.num_calls(f"GET fine_tuning/jobs/{running.far_uid}/events") == 1


def test_many_events_come_in_one_look(far, loop, running, monkeypatch):
    monkeypatch.setattr(far_api, "EVENTS_PER_PAGE", 3)
    for step in range(2, 12):
        far.add_step(step)
    assert look(loop, running).step == 11
    assert running.events.count() == 12


def test_a_watcher_killed_meanwhile_goes_on_from_the_rows(far, running):
    far.add_step(2)
    look(new_loop(), running)
    assert list(running.events.values_list("seq", flat=True)) == [1, 2, 3]


def test_a_gap_in_the_events_ends_the_job_in_words(far, loop, running):
    far.lines[running.far_uid].append({"seq": 9, "time": 1.0, "type": "log"})
    look(loop, running)
    assert running.status == Status.FAILED
    assert "Events are missing on the engine lab after number 2" in (
        running.status_message
    )


def test_the_other_sides_words_are_shown(far, loop, running):
    far.job["status_message"] = "The trainer ended at step 1; it is started again."
    assert look(loop, running).status_message == far.job["status_message"]


def test_waiting_there_is_no_death(far, loop, job):
    look(loop, job)
    far.job["status"] = "validating_files"
    look(loop, job)
    assert (job.status, job.deaths) == (Status.STARTING, 0)
    assert "lab has the job and counts its tokens" in job.status_message


def test_the_final_event_ends_the_job(far, loop, running):
    far.job["status"] = "succeeded"
    far.add("status", status="succeeded", message="")
    look(loop, running)
    assert running.status == Status.SUCCEEDED
    assert running.finished_at


def test_a_far_job_that_ends_without_a_word_ends_here_in_words(far, loop, running):
    far.job.update(status="failed", error={"message": "The trainer ended 3 times."})
    look(loop, running)
    assert running.status == Status.FAILED
    assert running.status_message == (
        "The engine lab ended this job: it is failed there. The trainer ended 3 times."
    )


def test_a_far_job_that_was_deleted_ends_here_in_words(far, loop, running):
    far.jobs.clear()
    look(loop, running)
    assert running.status == Status.FAILED
    assert "it was deleted there" in running.status_message


def test_the_plan_of_the_other_side_counts(far, loop, running):
    far.job["total_steps"] = 24
    assert look(loop, running).total_steps == 24


# ----- what people want


def test_pause_and_resume(far, loop, running, member):
    services.pause_job(member=member, job=running)
    look(loop, running)
    assert far.job["status"] == "paused"
    far.add("status", status="paused", message="")
    assert look(loop, running).status == Status.PAUSED
    services.resume_job(member=member, job=running)
    look(loop, running)
    assert (far.job["status"], running.status) == ("queued", Status.STARTING)
    far.job["status"] = "running"
    assert look(loop, running).status == Status.RUNNING


def test_a_pause_before_the_start_needs_no_event(far, loop, job, member):
    look(loop, job)
    services.pause_job(member=member, job=job)
    look(loop, job)
    assert look(loop, job).status == Status.PAUSED


def test_a_pause_made_on_the_other_side_stays_one(far, loop, running):
    far.job["status"] = "paused"
    far.add("status", status="paused", message="")
    look(loop, running)
    assert (running.status, running.want) == (Status.PAUSED, Job.Want.PAUSE)
    assert running.status_message == "It was paused on the engine lab."
    assert far.num_calls(f"POST fine_tuning/jobs/{running.far_uid}/resume") == 0


def test_a_pause_that_was_taken_back_does_not_stay(far, loop, running, member):
    services.pause_job(member=member, job=running)
    look(loop, running)
    services.resume_job(member=member, job=running)
    far.add("status", status="paused", message="")
    look(loop, running)
    look(loop, running)
    assert far.job["status"] == "queued"
    assert running.want == Job.Want.RUN


def test_stop(far, loop, running, member):
    services.stop_job(member=member, job=running)
    look(loop, running)
    assert far.job["status"] == "cancelled"
    far.add("status", status="cancelled", message="")
    look(loop, running)
    assert (running.status, running.status_message) == (Status.CANCELLED, "")


def test_a_job_stopped_before_it_was_sent_is_never_sent(far, loop, job, member):
    far.trouble = refusal(503, "Not now.")
    look(loop, job)
    services.stop_job(member=member, job=job)
    far.trouble = None
    look(loop, job)
    assert (job.status, far.jobs) == (Status.CANCELLED, {})


def test_a_snapshot_is_asked_for_once(far, loop, running, member):
    services.request_snapshot(member=member, job=running)
    for _ in range(3):
        look(loop, running)
    asked = [body for path, body in far.bodies if path.endswith("/snapshots")]
    assert asked == [{"requests": 1}]


def test_a_snapshot_is_asked_for_beside_those_of_people_there(
    far, loop, running, member
):
    far.job["snapshot_requests"] = 3
    for total in (4, 5):
        services.request_snapshot(member=member, job=running)
        look(loop, running)
        assert far.job["snapshot_requests"] == total


@pytest.mark.parametrize("another", [False, True])
def test_a_lost_answer_asks_for_no_second_snapshot(far, loop, running, member, another):
    far.job["snapshot_requests"] = 3
    services.request_snapshot(member=member, job=running)
    far.lost = [f"POST fine_tuning/jobs/{running.far_uid}/snapshots"]
    look(loop, running)
    look(new_loop() if another else loop, running)
    assert far.job["snapshot_requests"] == 4


def test_another_key_forgets_no_snapshot(far, loop, running, member):
    far.job["snapshot_requests"] = 3
    services.request_snapshot(member=member, job=running)
    EngineSetting.objects.update(sealed_key=seal("sk-wrong"))
    look(loop, running)
    EngineSetting.objects.update(sealed_key=seal(KEY))
    look(loop, running)
    assert far.job["snapshot_requests"] == 4


def test_a_second_watcher_asks_for_what_the_first_did_not(far, running, member):
    services.request_snapshot(member=member, job=running)
    look(new_loop(), running)
    services.request_snapshot(member=member, job=running)
    look(new_loop(), running)
    assert far.job["snapshot_requests"] == 2
