"""The pages of datasets in a browser's eyes, and who may do what."""

import io

import jsonlines
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from datasets import services
from datasets.models import Dataset, DatasetVersion, DraftChange
from tests.support import factories

GOOD = b'{"data": {"text_list": ["2 + 2 =", "4"], "loss_weights": [0.1, 1]}}\n'


@pytest.fixture
def version(member):
    version = services.import_dataset_file(
        member=member, name="Sums", upload=SimpleUploadedFile("sums.jsonl", GOOD * 60)
    )
    services.import_version(version_id=version.pk)
    version.refresh_from_db()
    return version


def address(version, name):
    needs_number = name in {
        "download",
        "problems",
        "rule",
        "undo",
        "discard",
        "save",
        "rejoin",
    }
    args = [version.dataset_id] + ([version.number] if needs_number else [])
    if name == "weights":
        args += [version.number, 1]
    return reverse(f"dataset-{name}", args=args)


PAGES = ["versions", "report", "progress", "download"]
ACTIONS = [
    "upload",
    "rename",
    "delete",
    "rule",
    "weights",
    "undo",
    "discard",
    "save",
    "rejoin",
]


@pytest.mark.parametrize("name", PAGES + ACTIONS)
def test_signed_out_people_are_sent_to_sign_in(client, version, name):
    answer = client.post(address(version, name))
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("sign-in"))


@pytest.mark.parametrize("name", ACTIONS)
def test_viewers_change_nothing(client, viewer, version, name):
    client.force_login(viewer)
    before = DatasetVersion.objects.count(), DraftChange.objects.count()
    answer = client.post(address(version, name), {"segment": 0, "weight": 0.5})
    assert answer.status_code == 403
    assert before == (DatasetVersion.objects.count(), DraftChange.objects.count())


def test_viewers_cannot_upload(client, viewer):
    client.force_login(viewer)
    assert client.post(reverse("dataset-new")).status_code == 403


@pytest.mark.parametrize("name", ["versions", "report", "progress"])
def test_viewers_see_everything(client, viewer, version, name):
    client.force_login(viewer)
    assert client.get(address(version, name)).status_code == 200


def test_viewers_are_offered_no_change(client, viewer, version):
    client.force_login(viewer)
    page = client.get(reverse("dataset", args=[version.dataset_id])).content.decode()
    assert "Train on this" not in page
    assert "data-rule" not in page


@pytest.mark.parametrize("name", sorted({*ACTIONS} - {"upload"}))
def test_actions_want_a_post(client, member, version, name):
    client.force_login(member)
    assert client.get(address(version, name)).status_code == 405


@pytest.mark.parametrize(
    "path", ["999/", "999/versions/", "999/versions/1/examples.jsonl", "1/?version=9"]
)
def test_what_is_not_there_is_404(client, member, path):
    client.force_login(member)
    assert client.get(f"/datasets/{path}").status_code == 404


def test_the_empty_list_says_what_to_do(client, member):
    client.force_login(member)
    page = client.get(reverse("datasets")).content.decode()
    assert "No dataset yet" in page
    assert reverse("dataset-new") in page


def upload(client, content=GOOD, file_name="sums.jsonl", **fields):
    data = {
        "file": SimpleUploadedFile(file_name, content),
        "name": "Sums",
        "text_split": "paragraphs",
        "joiner": "",
    }
    headers = fields.pop("headers", {})
    return client.post(reverse("dataset-new"), data | fields, headers=headers)


def test_a_file_is_uploaded_by_the_plain_form(client, member):
    client.force_login(member)
    answer = upload(client)
    [dataset] = Dataset.objects.all()
    assert answer["Location"] == reverse("dataset", args=[dataset.pk])
    assert (dataset.name, dataset.created_by) == ("Sums", member)


def test_a_mistake_is_said_beside_its_field(client, member, version):
    client.force_login(member)
    answer = upload(client)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "There is a dataset named Sums already." in page
    assert f'<a href="/datasets/{version.dataset_id}/">Open it</a>' in page
    assert 'aria-invalid="true"' in page


def test_the_script_is_answered_with_json(client, member):
    client.force_login(member)
    accept = {"Accept": "application/json"}
    refused = upload(client, file_name="sums.pdf", headers=accept)
    assert refused.status_code == 422
    assert "none of .jsonl, .txt, .csv" in refused.json()["errors"]["file"][0]
    taken_in = upload(client, headers=accept)
    url = reverse("dataset", args=[Dataset.objects.get().pk])
    assert taken_in.json() == {"url": url}
    assert upload(client, headers=accept).json()["links"] == {"name": url}


def test_a_space_survives_the_form(client, member):
    client.force_login(member)
    upload(client, joiner="space")
    assert DatasetVersion.objects.get().joiner == " "


def test_an_import_under_way_shows_its_progress(client, member):
    client.force_login(member)
    upload(client)
    pk = Dataset.objects.get().pk
    page = client.get(reverse("dataset", args=[pk])).content.decode()
    assert "data-import-progress" in page
    state = client.get(reverse("dataset-progress", args=[pk])).json()
    assert state == {"importing": True, "version": 1, "done": 0, "total": len(GOOD)}


def test_a_failed_import_says_what_to_mend(client, member):
    client.force_login(member)
    upload(client, b"{\n")
    version = DatasetVersion.objects.get()
    services.import_version(version_id=version.pk)
    page = client.get(reverse("dataset", args=[version.dataset_id])).content.decode()
    assert "The import failed." in page
    assert "Upload the file again" in page


def test_examples_come_page_by_page(client, member, version):
    client.force_login(member)
    page = client.get(reverse("dataset", args=[version.dataset_id]), {"page": 3})
    assert "Examples 51 to 60 of 60" in page.content.decode()


def test_going_to_an_example_opens_its_page(client, member, version):
    client.force_login(member)
    url = reverse("dataset", args=[version.dataset_id])
    assert 'id="example-26"' in client.get(url, {"example": "26"}).content.decode()
    assert 'id="example-60"' in client.get(url, {"example": "9,999"}).content.decode()


def test_what_is_learned_is_said_in_a_sentence(client, member, version):
    client.force_login(member)
    page = client.get(reverse("dataset", args=[version.dataset_id])).content.decode()
    assert "<b>59&nbsp;%</b> from last segments" in page
    assert "<b>41&nbsp;%</b> from first segments" in page


def test_text_is_never_markup(client, member):
    hostile = "</script><img src=x onerror=alert(1)>"
    version = factories.make_dataset(name=hostile, examples=[[(hostile, 1.0)]])
    client.force_login(member)
    for url in (reverse("dataset", args=[version.dataset_id]), reverse("datasets")):
        page = client.get(url, {"edit": 1}).content.decode()
        assert "<img" not in page
        assert "&lt;img" in page


def test_a_rule_is_added_to_the_draft(client, member, version):
    client.force_login(member)
    answer = client.post(
        address(version, "rule"), {"segment": "-1", "weight": "0.5", "page": "2"}
    )
    assert answer["Location"] == f"/datasets/{version.dataset_id}/?page=2"
    page = client.get(answer["Location"]).content.decode()
    assert "Every last segment gets <b>0.5</b>" in page
    assert "Save as version 2" in page


@pytest.mark.parametrize("weight", ["", "x", "-1", "nan", "101"])
def test_a_wrong_weight_is_refused_with_words(client, member, version, weight):
    client.force_login(member)
    data = {"segment": "0", "weight": weight}
    page = client.post(address(version, "rule"), data, follow=True).content.decode()
    assert 'role="alert"' in page
    assert not DraftChange.objects.exists()


def test_the_weights_of_one_example_are_changed(client, member, version):
    client.force_login(member)
    client.post(address(version, "weights"), {"weight": ["0.1", "0.25"]})
    [change] = DraftChange.objects.all()
    assert (change.example, change.segment, change.weight) == (0, 1, 0.25)


def test_examples_count_from_one(client, member, version):
    client.force_login(member)
    url = reverse("dataset-weights", args=[version.dataset_id, version.number, 0])
    assert client.post(url, {"weight": "0.5"}).status_code == 404
    assert not DraftChange.objects.exists()


@pytest.mark.parametrize("digits", ["9" * 30, "9" * 5000])
def test_numbers_beyond_all_rows_are_no_crash(client, member, version, digits):
    client.force_login(member)
    page = reverse("dataset", args=[version.dataset_id])
    assert client.get(page, {"example": digits, "page": digits}).status_code == 200
    answer = client.post(address(version, "undo"), {"change": digits, "edit": digits})
    assert answer["Location"] == page


def test_editing_shows_the_tokens_of_the_trainer(client, member, version):
    client.force_login(member)
    url = reverse("dataset", args=[version.dataset_id])
    page = client.get(url, {"edit": 2}).content.decode()
    assert "What the trainer will use" in page
    assert 'data-w="10">end<small>0</small>' in page


def test_a_draft_is_saved_and_shown_as_the_newest_version(client, member, version):
    client.force_login(member)
    client.post(address(version, "rule"), {"segment": "0", "weight": "0"})
    client.post(address(version, "save"), {"note": "Sums are only read"})
    saved = DatasetVersion.objects.get(number=2)
    services.import_version(version_id=saved.pk)
    page = client.get(reverse("dataset", args=[version.dataset_id])).content.decode()
    assert "Sums are only read" in page
    assert "Read, not learned" in page


def test_an_older_version_stays_in_reach(client, member, version):
    test_a_draft_is_saved_and_shown_as_the_newest_version(client, member, version)
    url = reverse("dataset", args=[version.dataset_id])
    page = client.get(url, {"version": 1}).content.decode()
    assert "Read, not learned" not in page


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_a_version_is_downloaded_as_it_is(client, member, version):
    client.force_login(member)
    answer = client.get(address(version, "download"))
    assert b"".join(answer) == version.examples_path.read_bytes()
    assert 'filename="sums-1.jsonl"' in answer["Content-Disposition"]


def test_lines_that_were_left_out_are_downloaded_as_jsonl(client, viewer, version):
    problem = {"line": 3, "message": "this is not JSON", "text": '{"data": <'}
    DatasetVersion.objects.update(problems=[problem], num_bad=1)
    client.force_login(viewer)
    answer = client.get(address(version, "problems"))
    with jsonlines.Reader(io.StringIO(answer.content.decode())) as lines:
        assert list(lines) == [problem]


def test_unspaced_segments_are_noticed_and_joined(client, member, version):
    client.force_login(member)
    page = client.get(reverse("dataset", args=[version.dataset_id])).content.decode()
    assert "In 60 examples segments meet without white space" in page
    client.post(address(version, "rejoin"), {"joiner": "new-line"})
    assert DatasetVersion.objects.get(number=2).joiner == "\n"


def test_a_dataset_is_renamed(client, member, version):
    client.force_login(member)
    client.post(address(version, "rename"), {"name": "Additions"})
    assert Dataset.objects.get().name == "Additions"


def test_a_name_that_another_dataset_has_leads_to_it(client, member, version):
    client.force_login(member)
    other = factories.make_dataset("Primes").dataset_id
    where = address(version, "rename")
    page = client.post(where, {"name": "primes"}, follow=True).content.decode()
    assert "There is a dataset named primes already." in page
    assert f'<a href="/datasets/{other}/">Open it</a>' in page


def test_a_dataset_nobody_uses_is_deleted_with_its_files(client, member, version):
    client.force_login(member)
    client.post(address(version, "delete"))
    assert not Dataset.objects.exists()
    assert not version.folder.exists()


def test_a_dataset_that_a_job_uses_stays(client, member, version):
    factories.make_job(version)
    client.force_login(member)
    page = client.post(address(version, "delete"), follow=True).content.decode()
    assert "Sums stays: 1 job uses it" in page
    assert version.examples_path.exists()


def test_deleting_is_asked_for_first(client, member, version):
    client.force_login(member)
    page = client.get(address(version, "versions")).content.decode()
    assert "data-confirm" in page


@pytest.mark.parametrize("wanted", ["refund", "0", "-3", "5", "1.5", "9" * 30])
def test_going_to_no_example_says_so(client, member, wanted):
    version = factories.make_dataset("Capitals")
    client.force_login(member)
    page = client.get(f"/datasets/{version.dataset_id}/", {"example": wanted})
    text = page.content.decode()
    assert f"There is no example <bdi>{wanted}</bdi>" in text
    assert "Type a number from 1 to 4." in text


def test_going_to_an_example_says_nothing(client, member):
    version = factories.make_dataset("Capitals")
    client.force_login(member)
    page = client.get(f"/datasets/{version.dataset_id}/", {"example": " 3 "})
    assert "There is no example" not in page.content.decode()
