"""Jobs that are made before their dataset is imported."""

import pytest
from django_q.models import OrmQ

from datasets.models import DatasetVersion
from datasets.services import import_dataset_file
from finetune_site.common.errors import UserError
from jobs.models import Job
from jobs.new_job.preparation import prepare, unimported
from tests.support import factories
from tests.support.watching import run_tasks

GOOD = '{"data": {"text_list": ["The sky is ", "blue"], "loss_weights": [0.1, 0.9]}}\n'


@pytest.fixture
def create(member, tmp_path, monkeypatch, django_capture_on_commit_callbacks):
    """Creates a job on a file that has just arrived; its tasks wait in the queue."""
    # No trainer: what is looked at is the way into the queue.
    monkeypatch.setattr("jobs.tasks.launch_all", lambda engine: 0)

    def create(text=GOOD * 40, **options):
        path = tmp_path / "sky.jsonl"
        path.write_text(text)
        with django_capture_on_commit_callbacks(execute=True):
            version = import_dataset_file(member=member, name="Sky", upload=path)
            return factories.create_job(
                member=member,
                name="Sky",
                dataset_version=version,
                base_model="tiny",
                may_import=True,
                **options,
            )

    return create


def test_a_job_waits_for_its_dataset(create):
    job = create()
    prepare(job.pk)
    job.refresh_from_db()
    assert (job.status, job.claimed_at) == (Job.Status.VALIDATING, None)


def test_the_end_of_the_import_lets_its_job_go_on(create):
    job = create()
    # Its own task came too early.
    OrmQ.objects.last().delete()
    run_tasks()
    assert run_tasks() == ["jobs.tasks.prepare_job"]
    job.refresh_from_db()
    assert (job.status, job.plan["examples"]) == (Job.Status.QUEUED, 40)


def test_an_import_that_fails_fails_its_job_in_words(create):
    job = create("no JSON\n")
    run_tasks()
    job.refresh_from_db()
    assert job.status == Job.Status.FAILED
    assert job.status_message.startswith("sky.jsonl could not be imported: The only")


def test_the_sweep_leaves_jobs_whose_import_goes_on(create):
    job = create()
    assert list(Job.objects.filter(unimported())) == [job]
    DatasetVersion.objects.update(status=DatasetVersion.Status.READY)
    assert not Job.objects.filter(unimported()).exists()


def test_settings_left_to_the_site_suit_the_data_once_it_is_there(create):
    job = create(auto=["epochs", "max_tokens", "completions_every"], batch_size=2)
    assert job.auto
    run_tasks()
    job.refresh_from_db()
    assert (job.auto, job.max_tokens, job.batch_size) == ([], 64, 2)


@pytest.mark.parametrize(
    ("suffix", "kept"),
    [("my model: v2/x", "my-model-v2-x"), ("日本", "日本"), ("", "")],
)
def test_a_suffix_keeps_what_a_name_may_hold(create, suffix, kept):
    assert create(suffix=suffix).suffix == kept


@pytest.mark.parametrize(
    "notes",
    [
        {"suffix": ":::"},
        {"suffix": "x" * 65},
        {"metadata": {str(n): "x" for n in range(17)}},
        {"metadata": {"k" * 65: "x"}},
        {"metadata": {"key": "x" * 513}},
        {"metadata": {"key": "a\0b"}},
        {"metadata": {"key": "\ud800"}},
    ],
)
def test_notes_that_do_not_fit_are_refused_with_their_field(create, notes):
    with pytest.raises(UserError) as caught:
        create(**notes)
    assert [caught.value.field] == list(notes)
