"""What holds for every address of /v1."""

import pytest
from django.db import OperationalError

from finetune_site.team.services import create_api_key, create_member


@pytest.fixture
def key(db):
    return create_api_key(member=create_member(username="dev"))


def get(client, path, key=None, **extra):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return client.get(path, headers=headers, **extra)


def test_unknown_address_is_an_error_in_the_one_shape(client, key):
    response = get(client, "/v1/nothing", key)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("path", ["embeddings", "responses", "uploads/upload_1/parts"])
def test_what_is_not_offered_is_refused_in_words(client, key, path):
    headers = {"authorization": f"Bearer {key}"}
    response = client.post(f"/v1/{path}", {}, "application/json", headers=headers)
    assert response.status_code == 404
    assert "does not offer" in response.json()["error"]["message"]
    assert "base URL" not in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1files"])
def test_no_address_is_answered_with_a_page(client, db, path):
    response = get(client, path)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
    assert "x-request-id" in response


def test_a_wrong_host_is_told_how_the_site_learns_its_name(client, db):
    """The client is elsewhere, and asks by the machine's IP address."""
    response = get(client, "/v1/files", HTTP_HOST="192.0.2.7:8000")
    assert response.status_code == 400
    assert "ALLOWED_HOSTS" in response.json()["error"]["message"]
    assert "x-request-id" in response


def test_a_wrong_host_of_a_page_is_told_by_a_page(client, db):
    response = client.get("/", HTTP_HOST="192.0.2.7:8000")
    assert response["content-type"].startswith("text/html")


def test_a_fault_before_any_view_is_an_error_in_the_one_shape(client, db, monkeypatch):
    def fail(*args):
        raise RuntimeError

    where = "django.middleware.common.CommonMiddleware.process_request"
    monkeypatch.setattr(where, fail)
    client.raise_request_exception = False
    response = get(client, "/v1/files")
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"


def test_errors_have_a_request_id(client, db):
    assert get(client, "/v1/nothing")["x-request-id"].startswith("req_")


def test_openapi_document_needs_no_key(client, db):
    assert get(client, "/v1/openapi.json").json()["openapi"].startswith("3.")


def test_the_page_of_the_api_is_for_members_only(client, db):
    assert client.get("/docs/api").status_code == 302


def test_a_database_that_is_away_is_a_reason_to_come_again(client, key, monkeypatch):
    def fail(*args, **kwargs):
        raise OperationalError("database is locked")

    monkeypatch.setattr("jobs.api.fine_tuning.page_of", fail)
    answer = get(client, "/v1/fine_tuning/jobs", key)
    assert (answer.status_code, answer["retry-after"]) == (503, "10")
