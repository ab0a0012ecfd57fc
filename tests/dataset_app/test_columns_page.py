"""From an uploaded table to a dataset: the page on which columns are chosen."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from datasets import services
from datasets.models import ColumnChoice, DatasetVersion
from datasets.stored.files import read_examples
from finetune_site.common.errors import UserError

SHEET = b"question;answer;mark\nWhat is 2 + 2?;4;1\nAnd 3 + 3?;6;0,5\n"
CHOSEN = {
    "template": ["Q: {question}\r\nA:", " {answer}"],
    "weight": ["0.1", "1"],
    "weight_column": ["", ""],
    "has_header": "on",
}


@pytest.fixture
def member_client(client, member):
    client.force_login(member)
    return client


@pytest.fixture
def version(member):
    return services.import_dataset_file(
        member=member,
        name="Sums",
        upload=SimpleUploadedFile("sums.csv", SHEET),
        can_choose=True,
    )


@pytest.fixture
def url(version):
    return reverse("dataset-columns", args=[version.dataset_id, version.number])


def imported(version):
    services.import_version(version_id=version.pk)
    version.refresh_from_db()
    return list(read_examples(version.examples_path, 0, 10))


def test_a_table_waits_until_its_columns_are_chosen(member_client, version, url):
    assert version.status == "columns"
    services.import_version(version_id=version.pk)
    version.refresh_from_db()
    assert version.status == "columns"
    page = member_client.get(reverse("dataset", args=[version.dataset_id]))
    assert url in page.content.decode()


def test_uploading_a_table_leads_to_its_columns(member_client):
    upload = SimpleUploadedFile("sums.tsv", SHEET.replace(b";", b"\t"))
    answer = member_client.post(
        reverse("dataset-new"),
        {"file": upload, "name": "Sums", "text_split": "paragraphs", "joiner": ""},
        follow=True,
    )
    assert "What are the columns?" in answer.content.decode()


def test_the_page_begins_with_a_guess_and_the_first_rows(member_client, url):
    page = member_client.get(url).content.decode()
    assert "{question}" in page
    assert "What is 2 + 2?" in page
    assert "Cells were cut at semicolons." in page


def test_rows_are_drawn_with_what_was_chosen(member_client, url):
    page = member_client.post(url, {**CHOSEN, "draw": "1"}).content.decode()
    assert "Q: What is 2 + 2?\nA:" in page
    assert "<html" not in page


def test_a_template_that_fits_no_column_is_said_where_rows_are_drawn(
    member_client, url
):
    wrong = {**CHOSEN, "template": ["{questoin}", "{answer}"], "draw": "1"}
    page = member_client.post(url, wrong).content.decode()
    assert "“question” is meant" in page


def test_importing_makes_the_examples_that_were_drawn(member_client, version, url):
    answer = member_client.post(url, {**CHOSEN, "import": "1"})
    assert answer.url == reverse("dataset", args=[version.dataset_id])
    assert imported(version) == [
        [("Q: What is 2 + 2?\nA:", 0.1), (" 4", 1.0)],
        [("Q: And 3 + 3?\nA:", 0.1), (" 6", 1.0)],
    ]
    assert not version.upload_path.exists()


def test_a_column_gives_each_row_its_weight(member_client, version, url):
    weighed = {**CHOSEN, "weight_column": ["", "mark"], "import": "1"}
    member_client.post(url, weighed)
    assert [weight for _, (_, weight) in imported(version)] == [1.0, 0.5]


def test_a_weight_that_a_column_holds_need_not_be_typed(member_client, version, url):
    weighed = {**CHOSEN, "weight": ["0", ""], "weight_column": ["", "mark"]}
    member_client.post(url, {**weighed, "import": "1"})
    assert [weight for _, (_, weight) in imported(version)] == [1.0, 0.5]
    # Databases refuse a number that is none.
    [_, last] = ColumnChoice.objects.get().mapping["segments"]
    assert last == {"template": " {answer}", "weight": 1.0, "weight_column": "mark"}


def test_segments_are_added_and_removed(member_client, url):
    page = member_client.post(url, {**CHOSEN, "add": "1"}).content.decode()
    assert "Segment 3" in page
    page = member_client.post(url, {**CHOSEN, "remove": "0"}).content.decode()
    assert "Segment 2" not in page
    assert " {answer}" in page


def test_a_wrong_choice_is_refused_and_kept_in_the_form(member_client, version, url):
    wrong = {**CHOSEN, "weight": ["-3", "1"], "import": "1"}
    answer = member_client.post(url, wrong)
    assert answer.status_code == 422
    assert "Q: {question}" in answer.content.decode()
    version.refresh_from_db()
    assert version.status == "columns"


def test_the_next_table_with_these_columns_begins_with_the_choice(
    member, member_client, url
):
    member_client.post(url, {**CHOSEN, "import": "1"})
    assert ColumnChoice.objects.get().chosen_by == member
    other = services.import_dataset_file(
        member=member,
        name="More",
        upload=SimpleUploadedFile("b.csv", SHEET.replace(b";", b",")),
        can_choose=True,
    )
    opened = services.opened_table(other)
    assert opened.is_remembered
    assert [one.template for one in opened.mapping.segments][1] == " {answer}"


def test_pressing_import_twice_imports_once(member_client, version, url):
    for _ in range(2):
        answer = member_client.post(url, {**CHOSEN, "import": "1"})
        assert answer.url == reverse("dataset", args=[version.dataset_id])
    assert len(imported(version)) == 2


def test_an_upload_that_waits_is_kept(version, settings, monkeypatch):
    monkeypatch.setattr("datasets.services.uploads.LEFT_AFTER_SECONDS", -1)
    services.remove_left_uploads()
    assert version.upload_path.exists()


def test_where_nobody_can_choose_columns_have_to_be_named(member, db):
    with pytest.raises(UserError, match="named prompt and completion"):
        services.import_dataset_file(
            member=member, name="A", upload=SimpleUploadedFile("a.csv", SHEET)
        )
    assert not DatasetVersion.objects.exists()
    named = SHEET.replace(b"question", b"Prompt").replace(b"answer", b"completion")
    version = services.import_dataset_file(
        member=member, name="B", upload=SimpleUploadedFile("b.csv", named)
    )
    assert imported(version)[0] == [("What is 2 + 2?", 0.0), ("4", 1.0)]
