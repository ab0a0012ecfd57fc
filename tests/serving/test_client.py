"""Where the socket is, and what the client makes of a server that is away."""

import pytest

from finetune_site.common.errors import LaterError
from jobs.serving import client
from tests.support.running_async import run


def test_socket_lies_in_the_data_folder(tmp_path):
    assert client.socket_path("/srv/data").name == "serving.sock"
    assert client.socket_path("/srv/data").parent.name == "run"


def test_long_path_moves_to_a_short_private_folder(tmp_path):
    long = tmp_path / ("x" * 120)
    path = client.socket_path(long)
    assert len(bytes(path)) <= client.MAX_PATH_BYTES
    assert path == client.socket_path(long)
    assert path != client.socket_path(tmp_path / ("y" * 120))


def test_folder_that_others_can_reach_is_not_trusted(tmp_path):
    tmp_path.chmod(0o755)
    assert not client.is_private(tmp_path)
    tmp_path.chmod(0o700)
    assert client.is_private(tmp_path)


def test_link_to_a_private_folder_is_not_trusted(tmp_path):
    tmp_path.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert not client.is_private(link)


def test_nobody_listens(tmp_path):
    assert not client.is_alive(tmp_path / "serving.sock")


def test_server_away_for_long_is_said_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "RESTART_SECONDS", 0.2)

    async def ask():
        async for _ in client.stream_completion(tmp_path / "serving.sock", {}):
            pass

    with pytest.raises(LaterError, match="starting"):
        run(ask())
