"""The form of a new job, and its plan."""

import re
import shutil

import pytest
from django.urls import reverse

from jobs.models import Job
from jobs.services import counting
from jobs.services.specs import build_spec
from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.contract.settings import SETTINGS
from tests.support import factories

NEW = "/jobs/new/"


@pytest.fixture(autouse=True)
def counted(monkeypatch, data_dir) -> list:
    """Collects the tasks that were enqueued, instead of a queue."""
    tasks: list = []
    monkeypatch.setattr(counting, "async_task", lambda *args, **_: tasks.append(args))
    counting.cache.clear()
    return tasks


@pytest.fixture
def signed_in(client, member):
    client.force_login(member)
    return client


@pytest.fixture
def version(db):
    return factories.make_dataset("Capitals")


def form_data(version, **changes) -> dict:
    return {
        **{name: setting.default for name, setting in SETTINGS.items()},
        "dataset_version": version.pk,
        "validation_version": "",
        "base_model": "tiny",
        "engine": "local",
        "epochs": 3,
        "max_tokens": 64,
        "learning_rate_scale": "0.6",
        "seed": 1,
        "prompts": ["The capital of Chad is ", "", "Two\r\nlines"],
        "completions_every": 10,
        "num_completions": 2,
        "snapshots_every": 20,
        "name": "gentle",
        **changes,
    }


@pytest.mark.parametrize("name", ["job-new", "job-plan"])
def test_viewer_gets_403(client, viewer, name):
    client.force_login(viewer)
    assert client.get(reverse(name)).status_code == 403


def test_signed_out_goes_to_sign_in(client, db):
    assert client.get(NEW).url.startswith(reverse("sign-in"))


def test_start_creates_the_job_and_shows_it(signed_in, member, version):
    answer = signed_in.post(NEW, form_data(version))
    job = Job.objects.get()
    assert answer.url == reverse("job", args=[job.pk])
    assert (job.created_by, job.name, job.epochs) == (member, "gentle", 3)
    assert job.learning_rate_scale == 0.6


def test_prompts_keep_white_space_and_lose_empty_lines(signed_in, version):
    signed_in.post(NEW, form_data(version))
    assert Job.objects.get().prompts == ["The capital of Chad is ", "Two\nlines"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("epochs", "0", "from 1 to 1,000"),
        ("batch_size", "many", "from 1 to 4,096"),
        ("learning_rate_scale", "-1", "from 0.001 to 100"),
        ("learning_rate_scale", "nan", "from 0.001 to 100"),
        ("base_model", "gpt", "not in the list"),
        ("base_model", "ada", "not on this machine"),
        ("max_tokens", "100000", "reads at most 2,048"),
        ("prompts", ["x" * 8001], "8,001 characters"),
        ("dataset_version", "987", "gone or not ready"),
        ("completions_every", "", "from 0 to"),
    ],
)
def test_error_stands_beside_its_field(signed_in, version, field, value, words):
    answer = signed_in.post(NEW, form_data(version, **{field: value}))
    form = answer.context["form"]
    assert words in " ".join(form.errors[field])
    assert f'id="id_{field}_error"' in answer.content.decode()
    assert not Job.objects.exists()


def test_what_was_typed_stays_on_errors(signed_in, version):
    data = form_data(version, epochs=0, name="my <b>name</b>")
    text = signed_in.post(NEW, data).content.decode()
    assert "my &lt;b&gt;name&lt;/b&gt;" in text
    assert "The capital of Chad is </textarea>" in text


def test_stopping_early_goes_into_the_spec(signed_in, version):
    validation = factories.make_dataset("Capitals, validation")
    data = form_data(version, validation_version=validation.pk, early_stop=3)
    signed_in.post(NEW, data)
    assert build_spec(Job.objects.get()).early_stop == 3


def test_snapshot_must_be_chosen_when_starting_from_one(signed_in, version):
    factories.make_snapshot(factories.make_job(version))
    answer = signed_in.post(NEW, form_data(version, base_model="snapshot"))
    assert "parent_snapshot" in answer.context["form"].errors


def test_training_further_pins_the_snapshot(signed_in, version):
    snapshot = factories.make_snapshot(factories.make_job(version))
    data = form_data(version, base_model="snapshot", parent_snapshot=snapshot.uid)
    signed_in.post(NEW, data)
    job = Job.objects.latest("id")
    assert (job.parent_snapshot, job.base_model) == (snapshot, "tiny")


def test_link_from_a_dataset_chooses_it(signed_in, version):
    factories.make_dataset("Newer")
    form = signed_in.get(NEW, {"dataset": version.dataset_id}).context["form"]
    assert form["dataset_version"].value() == version.pk
    assert form["name"].value().startswith("Capitals")


def test_link_from_a_snapshot_chooses_it(signed_in, version):
    snapshot = factories.make_snapshot(factories.make_job(version))
    form = signed_in.get(NEW, {"snapshot": snapshot.uid}).context["form"]
    assert form["base_model"].value() == "snapshot"
    assert form["parent_snapshot"].value() == snapshot.uid


def test_train_again_takes_all_settings_over(signed_in, version):
    job = factories.make_job(version, epochs=7, seed=5, learning_rate_scale=0.3)
    form = signed_in.get(NEW, {"like": job.pk}).context["form"]
    values = [form[name].value() for name in ("epochs", "seed", "learning_rate_scale")]
    assert values == [7, 5, 0.3]


def test_nonsense_in_the_link_is_ignored(signed_in, version):
    for query in ({"like": "x"}, {"dataset": "-1"}, {"snapshot": "\0"}, {"like": "9"}):
        assert signed_in.get(NEW, query).status_code == 200


@pytest.mark.parametrize("digits", ["9" * 30, "9" * 5000])
def test_numbers_beyond_all_rows_are_refused(signed_in, version, digits):
    for query in ({"like": digits}, {"dataset": digits}):
        assert signed_in.get(NEW, query).status_code == 200
    data = form_data(version) | {"dataset_version": digits}
    assert signed_in.post(NEW, data).status_code == 422
    assert signed_in.get(reverse("job-plan"), data).status_code == 200


def test_without_datasets_the_page_leads_to_the_upload(signed_in):
    text = signed_in.get(NEW).content.decode()
    assert reverse("dataset-new") in text
    assert "Start the job" not in text


def test_only_the_newest_ready_version_is_offered(signed_in, version):
    newer = factories.make_dataset("to be moved")
    newer.dataset, newer.number = version.dataset, 2
    newer.save()
    version.dataset.versions.create(number=3, status="importing")
    offered = signed_in.get(NEW).context["form"].fields["dataset_version"].queryset
    assert newer in offered
    assert version not in offered


def test_plan_counts_first_and_once(signed_in, version, counted):
    for _ in range(3):
        answer = signed_in.get(reverse("job-plan"), form_data(version)).json()
    assert answer["counting"] is True
    assert counted == [("jobs.tasks.count_tokens", version.pk, "tiny")]


def test_plan_is_exact_once_tokens_are_counted(signed_in, version):
    counting.count_version(version.pk, "tiny")
    answer = signed_in.get(reverse("job-plan"), form_data(version)).json()
    assert "1 row of 64" in answer["html"]
    assert "1 step × 3 epochs" in answer["html"]
    assert answer["counting"] is False


@pytest.mark.parametrize("link", ["snapshot", "like"])
def test_links_to_train_further_open_the_form_with_its_plan(signed_in, version, link):
    counting.count_version(version.pk, "tiny")
    parent = factories.make_snapshot(factories.make_job(version))
    shutil.copytree(SHIPPED / "tiny", parent.folder, dirs_exist_ok=True)
    child = factories.make_job(version, parent_snapshot=parent)
    value = parent.uid if link == "snapshot" else child.pk
    page = signed_in.get(NEW, {link: value})
    assert page.status_code == 200
    assert page.context["view"].state == "ready"


def test_plan_counts_the_completions_of_all_prompts(signed_in, version):
    counting.count_version(version.pk, "tiny")
    html = [
        signed_in.get(
            reverse("job-plan"), {**form_data(version), "num_prompts": num}
        ).json()["html"]
        for num in (1, 5)
    ]
    times = [int(re.search(r"Completions</dt><dd>(\d+)", one)[1]) for one in html]
    assert times[1] == 5 * times[0]


def test_plan_waits_for_valid_numbers(signed_in, version):
    answer = signed_in.get(reverse("job-plan"), form_data(version, epochs="x")).json()
    assert "The plan appears here" in answer["html"]


def test_plan_suggests_settings_for_a_newly_chosen_dataset(signed_in, version):
    data = form_data(version, suggest="")
    suggested = signed_in.get(reverse("job-plan"), data).json()["suggested"]
    assert suggested["max_tokens"] == 64
    assert suggested["name"].startswith("Capitals")


def test_a_dataset_is_paired_with_its_validation_dataset(signed_in):
    jokes = factories.make_dataset("Jokes")
    paired = factories.make_dataset("Jokes, validation")
    form = signed_in.get(NEW).context["form"]
    assert form.initial["dataset_version"] == jokes
    assert form.initial["validation_version"] == paired.pk


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_tokens": 5000}, "tiny reads at most 2,048 tokens at a time"),
        ({"dataset_version": "silent"}, "there is nothing to learn from it"),
        ({"validation_version": "silent"}, "there is nothing to learn from it"),
    ],
)
def test_plan_says_what_start_would_say(signed_in, version, changes, words):
    part = {"position": 0, "last": True, "segments": 4, "characters": 50}
    silent = factories.make_dataset("Silent", shares=[{**part, "weight": 0}])
    chosen = {key: silent.pk if v == "silent" else v for key, v in changes.items()}
    data = form_data(version, **chosen)
    html = signed_in.get(reverse("job-plan"), data).json()["html"]
    assert words in html
    assert "data-refused" in html
    page = signed_in.post(NEW, data)
    assert page.status_code == 422
    assert words in page.content.decode()
    assert not Job.objects.exists()
