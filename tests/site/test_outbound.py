"""Which addresses the site asks, and how."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
import requests

from finetune_site.common import outbound
from finetune_site.common.errors import UserError
from finetune_site.common.outbound import (
    RefusedAddressError,
    check_address,
    check_url,
)

PRIVATE = [
    "http://127.0.0.1:8000/v1",
    "http://localhost/v1",
    "http://127.1/",
    "http://0x7f000001/",
    "http://2130706433/",
    "http://017700000001/",
    "http://10.0.0.8/v1",
    "http://192.168.1.1/",
    "http://172.16.0.1/",
    "http://100.64.0.1/",
    "http://[::1]/",
    "http://[fd00::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::10.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://[fec0::1]/",
]
NEVER = [
    "http://169.254.169.254/latest/meta-data",
    "http://169.254.170.2/v2/credentials",
    "http://100.100.100.200/latest/meta-data",
    "http://192.0.0.192/latest/meta-data",
    "http://[fe80::1]/",
    "http://[fe80::a9fe:a9fe]/",
    "http://[::ffff:169.254.169.254]/",
    "http://168.63.129.16/machine",
    "http://[fd20:ce::254]/computeMetadata",
    "http://[fd00:c1::a9fe:a9fe]/opc/v2",
    "http://[fd00:ec2::254]/latest",
    "http://[fd00:ec2::23]/v1/credentials",
    # 169.254.169.254 through gateways whose prefix has 96, 64, 56 and 48 bits.
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[64:ff9b:1:0:a9:fea9:fe00:0]/",
    "http://[64:ff9b:1:a9:fe:a9fe::]/",
    "http://[64:ff9b:1:a9fe:a9:fe00::]/",
    "http://[::ffff:0:a9fe:a9fe]/",
    "http://[64:ff9b:1::6464:64c8]/",
    "http://0.0.0.0:8000/",
    "http://[::]/",
    "http://224.0.0.1/",
]
NO_ADDRESSES = [
    "",
    "ftp://8.8.8.8/",
    "file:///etc/passwd",
    "8.8.8.8/v1",
    "http://",
    "http://8.8.8.8:99999/",
    "http://8.8.8.8\\@127.0.0.1/",
    "http://8.8.8.8/ x",
    "http://[::1/",
    "https://8.8.8.8/" + "x" * 500,
]


@pytest.mark.parametrize("url", [*PRIVATE, *NEVER, *NO_ADDRESSES])
def test_refused(url: str) -> None:
    with pytest.raises(UserError) as caught:
        check_url(url, allow_private=False)
    assert caught.value.field == "url"


@pytest.mark.parametrize("url", [*NEVER, *NO_ADDRESSES])
def test_refused_also_when_private_addresses_are_allowed(url: str) -> None:
    with pytest.raises(UserError):
        check_url(url, allow_private=True)


@pytest.mark.parametrize("url", ["https://8.8.8.8/v1", "http://[2606:4700::1]:81/"])
def test_public_address(url: str) -> None:
    check_url(url, allow_private=False)


def test_private_address_when_allowed() -> None:
    check_url("http://127.0.0.1:8000/v1", allow_private=True)


def test_password_in_the_address() -> None:
    with pytest.raises(UserError, match="password"):
        check_url("https://ada:secret@8.8.8.8/v1", allow_private=False)


def test_host_that_does_not_exist() -> None:
    with pytest.raises(UserError, match="There is no host nowhere.invalid"):
        check_url("https://nowhere.invalid/v1", allow_private=False)


def test_gateway_to_a_public_address_is_public() -> None:
    check_address(ip_address("64:ff9b::8.8.8.8"), "host", allow_private=False)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        match self.path:
            case "/away":
                self.send_response(302)
                self.send_header("location", "/here")
                self.end_headers()
            case "/slow":
                self.send_response(200)
                self.end_headers()
                for _ in range(20):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            case _:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"here" * 1000)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://localhost:{running.server_port}"
        running.shutdown()


def test_session_asks_no_private_address(server: str) -> None:
    with pytest.raises(RefusedAddressError, match="private network"):
        outbound.session(allow_private=False).get(f"{server}/here")


def test_session_asks_private_addresses_when_allowed(server: str) -> None:
    answer = outbound.session(allow_private=True).get(f"{server}/here")
    assert answer.text == "here" * 1000


def test_a_name_that_leads_elsewhere_the_second_time(server, monkeypatch) -> None:
    """The name is checked as public, then leads to this machine when it is used."""
    real, asked = socket.getaddrinfo, []

    def rebinding(host: str, *args, **options):
        asked.append(host)
        address = "8.8.8.8" if len(asked) == 1 else "127.0.0.1"
        return real(address, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    url = f"http://rebinding.example:{server.rsplit(':')[-1]}/here"
    check_url(url, allow_private=False)
    with pytest.raises(RefusedAddressError):
        outbound.session(allow_private=False).get(url)
    assert asked == ["rebinding.example"] * 2


def test_session_connects_to_the_address_that_was_checked(server, monkeypatch) -> None:
    real, connected = socket.getaddrinfo, []

    def once(host: str, *args, **options):
        connected.append(host)
        return real("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    url = f"http://one.example:{server.rsplit(':')[-1]}/here"
    assert outbound.session(allow_private=True).get(url).ok
    # The address, once checked, is no name that is looked up again.
    assert connected[1:] == ["127.0.0.1"]


def test_session_follows_no_redirect(server: str) -> None:
    answer = outbound.session(allow_private=True).get(f"{server}/away")
    assert answer.status_code == 302


def test_answer_that_never_ends_in_time(server: str) -> None:
    answer = outbound.session(allow_private=True).get(f"{server}/slow", stream=True)
    with pytest.raises(requests.RequestException, match=r"longer than 0\.2 seconds"):
        outbound.read_answer(answer, max_bytes=1000, seconds=0.2)


def test_answer_that_is_too_large(server: str) -> None:
    answer = outbound.session(allow_private=True).get(f"{server}/here", stream=True)
    with pytest.raises(requests.RequestException, match="more than 1,000 bytes"):
        outbound.read_answer(answer, max_bytes=1000, seconds=5)


def test_session_ignores_proxies_of_the_environment(server, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert outbound.session(allow_private=True).get(f"{server}/here").ok
