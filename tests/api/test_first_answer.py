"""Requests that are sent twice."""

import threading
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from datasets.models import DatasetVersion
from jobs.models import FirstAnswer, Job
from tests.support import factories
from tests.support.api_client import ApiClient

JOBS = "/fine_tuning/jobs"


@pytest.fixture
def api(member):
    return ApiClient(member)


@pytest.fixture
def body(db):
    return {"model": "tiny", "training_file": factories.make_dataset().uid}


def send(api, body, key=None, retries=None, path=JOBS):
    headers = {"Idempotency-Key": key, "x-stainless-retry-count": retries}
    given = {name: value for name, value in headers.items() if value is not None}
    return api.post(path, body, **given).json()


def test_a_key_seen_before_gets_the_first_answer(api, body):
    first = send(api, body, key="one")
    assert send(api, {**body, "name": "another"}, key="one") == first
    assert Job.objects.count() == 1


def test_another_key_is_another_request(api, body):
    assert send(api, body, key="one")["id"] != send(api, body, key="two")["id"]


def test_keys_are_those_of_a_member(api, body, admin):
    other = ApiClient(admin)
    assert send(api, body, key="one")["id"] != send(other, body, key="one")["id"]


def test_a_retry_of_the_same_body_gets_the_first_answer(api, body):
    first = send(api, body, retries="0")
    assert send(api, body, retries="1") == first
    assert send(api, body, retries="2") == first


def test_the_same_body_sent_anew_is_a_new_request(api, body):
    first = send(api, body, retries="0")
    second = send(api, body, retries="0")
    assert first["id"] != second["id"]
    assert send(api, body, retries="1") == second


def test_a_retry_of_another_body_is_a_new_request(api, body):
    first = send(api, body)
    assert send(api, {**body, "seed": 2}, retries="1")["id"] != first["id"]


def test_a_retry_after_ten_minutes_is_a_new_request(api, body):
    first = send(api, body)
    FirstAnswer.objects.update(created_at=timezone.now() - timedelta(minutes=11))
    assert send(api, body, retries="1")["id"] != first["id"]


def test_keys_are_forgotten_after_a_day(api, body):
    first = send(api, body, key="one")
    FirstAnswer.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert send(api, body, key="two")["id"] != first["id"]
    assert FirstAnswer.objects.count() == 1


def test_an_error_is_not_kept(api, body):
    assert "error" in send(api, {**body, "model": "davinci"}, key="one")
    assert send(api, body, key="one")["object"] == "fine_tuning.job"


def test_a_request_that_dies_half_way_leaves_nothing(api, body, monkeypatch):
    """The transaction ends without a commit, as it does after kill -9."""

    def die(self):
        raise SystemExit

    monkeypatch.setattr("jobs.api.fine_tuning.show_job", die)
    with pytest.raises(SystemExit):
        send(api, body, key="one")
    assert not Job.objects.exists()
    monkeypatch.undo()
    assert send(api, body, key="one")["object"] == "fine_tuning.job"


def send_at_once(api, body, times, **headers):
    answers = []

    def ask():
        answers.append(send(api, body, **headers))

    threads = [threading.Thread(target=ask) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [{"key": "one"}, {"retries": "1"}])
def test_of_two_at_once_the_second_gets_the_answer_of_the_first(member, body, headers):
    answers = send_at_once(ApiClient(member), body, 4, **headers)
    assert len({answer["id"] for answer in answers}) == Job.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_first_sends_at_once_are_requests_of_their_own(member, body):
    """Programs that start several jobs alike may number no retries."""
    answers = send_at_once(ApiClient(member), body, 4)
    assert len({answer["id"] for answer in answers}) == Job.objects.count() == 4


def send_file(api, text, **headers):
    upload = SimpleUploadedFile("sky.jsonl", text.encode())
    return api.client.post(
        "/v1/files",
        {"file": upload, "purpose": "fine-tune"},
        headers={**api.headers, **headers},
    ).json()


SKY = '{"prompt": "The sky is", "completion": " blue"}\n'
AGAIN = {"x-stainless-retry-count": "1"}


def test_a_file_sent_again_is_no_second_version(api):
    first = send_file(api, SKY)
    assert send_file(api, SKY, **AGAIN) == first
    assert DatasetVersion.objects.count() == 1


def test_another_file_is_another_request(api):
    assert send_file(api, SKY)["id"] != send_file(api, SKY * 2, **AGAIN)["id"]
