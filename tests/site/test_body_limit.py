"""Large bodies are refused before Django writes them anywhere."""

import shutil
import socket
import tempfile
from collections import namedtuple

import pytest
import requests
from django.urls import reverse

from finetune_site import body_limit
from finetune_site.body_limit import (
    NOT_FROM_YOU,
    TOO_LARGE,
    max_upload_bytes,
    takes_files,
)
from finetune_site.processes import web
from finetune_site.team.services import create_api_key, revoke_api_key
from jobs.api.errors import error_body
from tests.support.web_server import serve

pytestmark = pytest.mark.django_db(transaction=True)

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def server():
    with serve() as address:
        yield address


def pieces(number):
    for _ in range(number):
        yield b"x" * MEGABYTE


def test_an_announced_large_body_is_refused_unread(server):
    request = requests.Request("POST", server + reverse("sign-in")).prepare()
    request.headers["Content-Length"] = str(3 * MEGABYTE)
    with requests.Session() as session:
        assert session.send(request, timeout=5).status_code == 413


def test_a_large_body_of_unknown_length_is_refused(server):
    answer = requests.post(server + reverse("sign-in"), data=pieces(3), timeout=5)
    assert answer.status_code == 413


def test_a_client_of_the_api_is_refused_in_its_own_shape(server):
    answer = requests.post(server + "/v1/models", data=pieces(3), timeout=5)
    assert answer.status_code == 413
    assert answer.json() == error_body(TOO_LARGE)


def test_a_form_comes_through(server):
    answer = requests.post(server + reverse("sign-in"), data=pieces(1), timeout=5)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("name", "args"),
    [("dataset-new", []), ("dataset-upload", [7]), ("api:upload_file", [])],
)
def test_uploads_may_be_as_large_as_the_settings_say(settings, name, args):
    settings.MAX_UPLOAD_BYTES = 50 * MEGABYTE
    assert takes_files(reverse(name, args=args))
    assert max_upload_bytes() > 50 * MEGABYTE


@pytest.mark.parametrize("path", ["/v1/models", "/datasets/", "/nothing", "/v1/files/"])
def test_other_addresses_take_no_files(path):
    assert not takes_files(path)


def upload(server, path="/v1/files", **sent):
    return requests.post(server + path, data=pieces(3), timeout=5, **sent)


def with_key(key):
    return {"headers": {"authorization": f"Bearer {key}"}}


def with_session(client, member):
    client.force_login(member)
    return {"cookies": {"sessionid": client.cookies["sessionid"].value}}


def test_large_files_are_taken_from_members(server, client, member):
    key = create_api_key(member=member)
    # Read to the end, and then found to be no form.
    assert upload(server, **with_key(key)).status_code == 400
    answer = upload(server, reverse("dataset-new"), **with_session(client, member))
    assert "send it again" in answer.text


def test_large_files_are_refused_unread_from_whom_nobody_knows(server, member):
    key = create_api_key(member=member)
    revoke_api_key(key=member.apikey_set.get(), by=member)
    for sent in ({}, with_key(key), {"cookies": {"sessionid": "x"}}):
        answer = upload(server, **sent)
        assert answer.json() == error_body(NOT_FROM_YOU)


def test_large_files_are_refused_unread_from_viewers(server, client, viewer):
    assert upload(server, **with_key(create_api_key(member=viewer))).status_code == 403
    answer = upload(server, reverse("dataset-new"), **with_session(client, viewer))
    assert answer.text.strip() == NOT_FROM_YOU.message


def test_the_web_process_keeps_bodies_on_the_disk_of_uploads(monkeypatch, settings):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(web.lifeline, "hold", lambda: None)
    monkeypatch.setattr(web.uvicorn.Server, "run", lambda server, sockets: None)
    monkeypatch.setenv(web.LISTEN_VARIABLE, str(socket.socket().detach()))
    web.main()
    assert tempfile.gettempdir() == str(settings.FILE_UPLOAD_TEMP_DIR)


@pytest.fixture
def upload_url(server, member):
    return server + "/v1/files", {
        "Authorization": f"Bearer {create_api_key(member=member)}"
    }


def test_an_upload_without_room_on_the_disk_is_refused(upload_url, monkeypatch):
    url, headers = upload_url
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(body_limit, "RESERVE_BYTES", 10 * MEGABYTE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(15 * MEGABYTE))
    large = b"x" * 6 * MEGABYTE
    assert (
        requests.post(url, data=large, headers=headers, timeout=10).status_code == 507
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9 * MEGABYTE))
    answer = requests.post(url, data=pieces(20), headers=headers, timeout=10)
    assert answer.status_code == 507
    assert "too little room" in answer.json()["error"]["message"]
    # Pages go on.
    assert requests.get(url, headers=headers, timeout=10).status_code == 200


def test_two_uploads_do_not_count_on_the_same_room(monkeypatch):
    room = body_limit._Room()
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(body_limit, "RESERVE_BYTES", 10 * MEGABYTE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(30 * MEGABYTE))
    with room.kept(15 * MEGABYTE) as first, room.kept(15 * MEGABYTE) as second:
        assert first
        assert second is None
        # What has arrived is on the disk, and not counted once more.
        first.arrived(10 * MEGABYTE)
        with room.kept(15 * MEGABYTE) as third:
            assert third
    assert room.promised == 0
