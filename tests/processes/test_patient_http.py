"""Connections that bring no request, over a real server."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import requests
import uvicorn

from finetune_site.processes import patient_http

BODY = b"x" * 100_000


async def echo(scope, receive, send) -> None:
    """Answers with the number of bytes that came."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


@pytest.fixture
def address(monkeypatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(patient_http, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(patient_http, "max_connections", lambda: 20)
    config = uvicorn.Config(
        echo, http=patient_http.PatientProtocol, lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()
        server.should_exit = server.force_exit = True
        thread.join()


@contextmanager
def connected(address) -> Iterator[socket.socket]:
    with closing(socket.create_connection(address, timeout=10)) as connection:
        yield connection


def seconds_open(connection: socket.socket) -> float:
    """Returns how long the server leaves the connection open."""
    began = time.monotonic()
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - began


def send_slowly(connection: socket.socket, data: bytes, step: int, pause: float) -> int:
    """Sends until the server has enough. Returns how many bytes went out."""
    for at in range(0, len(data), step):
        try:
            connection.sendall(data[at : at + step])
        except OSError:
            return at
        time.sleep(pause)
    return len(data)


@pytest.mark.parametrize("head", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_connection_without_a_whole_head_is_closed(address, head):
    with connected(address) as connection:
        connection.sendall(head)
        assert 0.1 < seconds_open(connection) < 5


def test_head_that_never_ends_is_closed_however_it_trickles(address):
    with connected(address) as connection:
        sent = send_slowly(connection, b"GET / HTTP/1.1\r\nA: " + b"a" * 100, 1, 0.05)
        assert sent < 100


def test_connection_after_its_answer_is_patient_anew(address):
    with connected(address) as connection:
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"200 OK" in connection.recv(65536)
            time.sleep(0.2)
        connection.sendall(b"GET / HT")
        assert seconds_open(connection) < 5


def test_body_that_comes_at_all_is_waited_for(address):
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    with connected(address) as connection:
        connection.sendall(head)
        assert send_slowly(connection, BODY, 10_000, 0.1) == len(BODY)
        assert b"\r\n100000\r\n" in connection.recv(65536)


def test_body_that_does_not_come_is_not(address):
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
    with connected(address) as connection:
        connection.sendall(head)
        assert send_slowly(connection, b"x" * 1000, 10, 0.05) < 1000


@pytest.mark.parametrize("pieces", [1, 100])
def test_head_that_is_too_long_is_refused(address, pieces):
    head = b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 100_000 + b"\r\n\r\n"
    with connected(address) as connection:
        send_slowly(connection, head, len(head) // pieces, 0)
        assert connection.recv(65536).startswith(b"HTTP/1.1 431")


def test_many_short_headers_count_together(address):
    head = b"GET / HTTP/1.1\r\n" + b"A: aaaaaaaa\r\n" * 10_000 + b"\r\n"
    with connected(address) as connection:
        send_slowly(connection, head, len(head), 0)
        assert connection.recv(65536).startswith(b"HTTP/1.1 431")


def test_long_head_that_is_still_allowed(address):
    url = "http://{}:{}/".format(*address)
    assert requests.get(url, headers={"A": "a" * 60_000}, timeout=5).text == "0"


def test_those_who_wait_longest_give_way(address, monkeypatch):
    monkeypatch.setattr(patient_http, "PATIENCE_SECONDS", 60)
    silent = [socket.create_connection(address) for _ in range(30)]
    try:
        url = "http://{}:{}/".format(*address)
        assert requests.get(url, timeout=5).text == "0"
        silent[0].settimeout(5)
        assert seconds_open(silent[0]) < 5
        silent[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            silent[-1].recv(1)
    finally:
        for connection in silent:
            connection.close()
