"""Files of the API: sent, listed, read back, deleted."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from datasets.models import Dataset, DatasetVersion
from datasets.selectors import find_file
from datasets.services import import_version, reweighted
from finetune_site.common.errors import UserError
from jobs.history.results import result_file_id
from jobs.models import FirstAnswer, Job
from tests.support import factories
from tests.support.api_client import ApiClient

GOOD = b'{"prompt": "2 + 2 =", "completion": " 4"}\n'
LONG_FORM = b'{"data":{"text_list":["2 + 2 ="," 4"],"loss_weights":[0.0,1.0]}}\n'

STREAMED = "ignore:StreamingHttpResponse must consume"

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(member):
    return ApiClient(member)


@pytest.fixture
def send(api):
    """Uploads a file, and has it imported unless `wait` says no."""

    def send(content=GOOD, name="sums.jsonl", purpose="fine-tune", wait=True):
        form = {"file": SimpleUploadedFile(name, content), "purpose": purpose}
        answer = api.client.post("/v1/files", form, headers=api.headers)
        if answer.status_code == 200 and wait:
            version = DatasetVersion.objects.get(uid=answer.json()["id"])
            import_version(version_id=version.pk)
        return answer

    return send


def error_of(answer):
    return answer.status_code, answer.json()["error"]


def finished_job(**fields):
    return factories.make_job(status=Job.Status.SUCCEEDED, step=2, **fields)


def test_a_file_is_taken_and_read_in_the_background(send, api):
    first = send(wait=False).json()
    assert (first["object"], first["status"]) == ("file", "uploaded")
    import_version(version_id=DatasetVersion.objects.get().pk)
    now = api.get(f"/files/{first['id']}").json()
    assert (now["status"], now["num_examples"]) == ("processed", 1)
    assert (now["filename"], now["bytes"]) == ("sums.jsonl", len(GOOD))


def test_it_is_a_dataset_of_the_files_name(send, member):
    assert send().json()["dataset"] == "sums"
    version = DatasetVersion.objects.get()
    assert (version.dataset.name, version.created_by) == ("sums", member)


def test_a_file_of_a_known_name_is_the_next_version(send):
    send()
    send(name="SUMS.jsonl")
    assert [v.number for v in Dataset.objects.get().versions.all()] == [2, 1]


@pytest.mark.parametrize("name", ["file", "upload", "blob"])
def test_files_without_a_name_have_nothing_in_common(send, name):
    names = {send(name=name).json()["dataset"] for _ in range(2)}
    assert len(names) == 2
    assert not names & {name}


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("../../etc/Größe.jsonl", "Größe"),
        ("C:\\data\\sums.jsonl", "sums"),
        ("a\tb.jsonl", "ab"),
        ("x" * 200 + ".jsonl", "x" * 120),
        ("sums", "sums"),
        ("日本語.txt", "日本語"),
    ],
)
def test_any_name_makes_a_dataset(send, name, dataset):
    assert send(name=name).json()["dataset"] == dataset


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", "sums.jsonl", "is empty"),
        (GOOD, "sums.pdf", "none of .jsonl, .txt, .csv"),
        (b"a,b\n1,2\n", "sums.csv", "no columns named prompt and completion"),
        (b"PK\x03\x04....", "sums.jsonl", "a zip or Office file"),
    ],
)
def test_a_file_that_cannot_work_is_refused_in_words(send, content, name, words):
    status, error = error_of(send(content, name))
    assert (status, error["param"]) == (400, "file")
    assert words in error["message"]


def test_another_purpose_is_refused_in_words(send):
    status, error = error_of(send(purpose="batch"))
    assert (status, error["param"]) == (400, "purpose")
    assert not Dataset.objects.exists()


def test_a_form_without_a_file_is_refused(api):
    form = {"purpose": "fine-tune"}
    answer = api.client.post("/v1/files", form, headers=api.headers)
    assert error_of(answer)[1]["param"] == "file"


def test_a_broken_form_is_refused(api):
    kind = "multipart/form-data; boundary="
    answer = api.client.post("/v1/files", b"x", kind, headers=api.headers)
    assert error_of(answer)[0] == 400


def test_a_file_that_is_too_large_is_refused(send, settings):
    settings.MAX_UPLOAD_BYTES = 10
    assert error_of(send())[0] == 413


def test_a_viewer_sends_nothing(viewer):
    api = ApiClient(viewer)
    form = {"file": SimpleUploadedFile("a.jsonl", GOOD), "purpose": "fine-tune"}
    answer = api.client.post("/v1/files", form, headers=api.headers)
    assert answer.status_code == 403


def test_the_same_request_sent_again_makes_no_second_file(send, api):
    api.headers["Idempotency-Key"] = "once"
    assert send().json()["id"] == send().json()["id"]
    assert FirstAnswer.objects.count() == DatasetVersion.objects.count() == 1


def test_lines_that_were_left_out_are_named(send, api):
    file = send(GOOD + b'{"prompt": 1}\n' + GOOD).json()
    details = api.get(f"/files/{file['id']}").json()["status_details"]
    assert "2 lines are prompts with completions." in details
    assert '1 line was left out.\nLine 2: "prompt" is a number' in details


def test_a_file_without_a_good_line_is_an_error(send, api):
    file = api.get(f"/files/{send(b'{}').json()['id']}").json()
    assert file["status"] == "error"
    assert "Line 1: " in file["status_details"]


@pytest.mark.filterwarnings(STREAMED)
def test_the_content_has_the_hash_of_the_file(send, api):
    uid = send().json()["id"]
    answer = api.get(f"/files/{uid}/content")
    assert b"".join(answer) == LONG_FORM
    version = DatasetVersion.objects.get()
    assert api.get(f"/files/{uid}").json()["sha256"] == version.sha256
    assert int(answer["Content-Length"]) == version.num_bytes


def test_there_is_no_content_before_it_is_processed(send, api):
    uid = send(wait=False).json()["id"]
    status, error = error_of(api.get(f"/files/{uid}/content"))
    assert (status, error["param"]) == (400, "file_id")


def test_files_are_paged_through(send, api):
    uids = [send().json()["id"] for _ in range(3)]
    first = api.get("/files", limit=2).json()
    assert [file["id"] for file in first["data"]] == uids[:0:-1]
    assert first["has_more"]
    second = api.get("/files", limit=2, after=first["last_id"]).json()
    assert ([file["id"] for file in second["data"]], second["has_more"]) == (
        uids[:1],
        False,
    )


def test_other_purposes_have_no_files(send, api):
    send()
    sizes = {
        purpose: len(api.get("/files", purpose=purpose).json()["data"])
        for purpose in ("fine-tune", "fine-tune-results", "batch")
    }
    assert sizes == {"fine-tune": 1, "fine-tune-results": 0, "batch": 0}


def test_listing_takes_few_queries(api, django_assert_max_num_queries):
    for _ in range(5):
        factories.make_dataset()
    api.get("/files")
    with django_assert_max_num_queries(2):
        assert len(api.get("/files").json()["data"]) == 5


@pytest.mark.parametrize("uid", ["file-nothing", "file-a%00b", "file-result-x", "%F0"])
def test_what_is_not_there_is_not_found(api, uid):
    for answer in (
        api.get(f"/files/{uid}"),
        api.get(f"/files/{uid}/content"),
        api.delete(f"/files/{uid}"),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


def test_a_deleted_file_takes_its_dataset_along(send, api):
    uid = send().json()["id"]
    folder = DatasetVersion.objects.get().folder
    answer = api.delete(f"/files/{uid}").json()
    assert answer == {"id": uid, "object": "file", "deleted": True}
    assert not Dataset.objects.exists()
    assert not folder.exists()
    assert api.get(f"/files/{uid}").status_code == 404


def test_other_versions_stay(send, api):
    uids = [send().json()["id"] for _ in range(2)]
    api.delete(f"/files/{uids[0]}")
    assert [file["id"] for file in api.get("/files").json()["data"]] == uids[1:]


def test_a_job_keeps_a_file_that_is_deleted(api):
    job = factories.make_job()
    uid = job.dataset_version.uid
    assert api.delete(f"/files/{uid}").json()["deleted"]
    assert api.get(f"/files/{uid}").status_code == 404
    assert api.get("/files").json()["data"] == []
    job.refresh_from_db()
    assert job.dataset_version.examples_path.exists()


def test_a_deleted_file_trains_no_more_jobs(api):
    version = factories.make_job().dataset_version
    assert find_file(version.uid, field="training_file") == version
    api.delete(f"/files/{version.uid}")
    with pytest.raises(UserError) as caught:
        find_file(version.uid, field="training_file")
    assert caught.value.field == "training_file"


@pytest.mark.parametrize("uid", ["", "file-x", "a\0b", "\ud800"])
def test_a_file_that_is_not_there_trains_no_jobs(uid):
    with pytest.raises(UserError, match="There is no file"):
        find_file(uid, field="training_file")


def test_a_file_stays_while_another_is_made_from_it(send, api, member):
    uid = send().json()["id"]
    version = DatasetVersion.objects.get()
    reweighted(member=member, version=version, prompt_weight=0.1)
    status, error = error_of(api.delete(f"/files/{uid}"))
    assert (status, error["param"]) == (400, "file_id")


@pytest.mark.filterwarnings(STREAMED)
def test_a_job_that_ended_has_a_result_file(api):
    job = finished_job()
    uid = result_file_id(job)
    file = api.get(f"/files/{uid}").json()
    assert (file["purpose"], file["status"]) == ("fine-tune-results", "processed")
    answer = api.get(f"/files/{uid}/content")
    assert answer["Content-Type"].startswith("text/csv")
    assert len(b"".join(answer)) == file["bytes"]


def test_a_job_that_goes_on_has_none(api):
    job = factories.make_job(status=Job.Status.RUNNING, step=2)
    assert api.get(f"/files/{result_file_id(job)}").status_code == 404


def test_result_files_are_listed_by_their_purpose(api):
    uids = [result_file_id(finished_job()) for _ in range(3)]
    query = {"purpose": "fine-tune-results", "limit": 2}
    first = api.get("/files", **query).json()
    assert [file["id"] for file in first["data"]] == uids[:0:-1]
    second = api.get("/files", after=first["last_id"], **query).json()
    assert [file["id"] for file in second["data"]] == uids[:1]


def test_few_result_files_are_counted_at_once(api, monkeypatch):
    monkeypatch.setattr("jobs.api.files.MAX_RESULTS", 2)
    for _ in range(3):
        finished_job()
    page = api.get("/files", purpose="fine-tune-results").json()
    assert (len(page["data"]), page["has_more"]) == (2, True)


def test_a_result_file_goes_with_its_job_only(api):
    answer = api.delete(f"/files/{result_file_id(finished_job())}")
    assert error_of(answer)[0] == 400
