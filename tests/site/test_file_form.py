"""Forms with a file, as they are sent."""

import tracemalloc

import pytest

from finetune_site.common import file_form
from finetune_site.common.errors import UserError
from finetune_site.common.file_form import FileForm

LARGE_FILE_BYTES = 100_000_000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\ntwo\n")
    return path


def form_of(path, name="a.jsonl", progress=lambda sent, total: None) -> FileForm:
    return FileForm(path, name, progress)


def test_the_form_holds_the_purpose_and_the_file(path):
    form = form_of(path)
    boundary = form.content_type.removeprefix("multipart/form-data; boundary=")
    purpose, file, end = b"".join(form).split(f"--{boundary}".encode())[1:]
    assert purpose.endswith(b'name="purpose"\r\n\r\nfine-tune\r\n')
    assert b'name="file"; filename="a.jsonl"\r\n' in file
    assert file.endswith(b"\r\n\r\none\ntwo\n\r\n")
    assert end == b"--\r\n"


def test_its_length_is_known_before_it_is_sent(path):
    form = form_of(path)
    assert len(form) == len(b"".join(form))


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ('a"b.jsonl', b'filename="a%22b.jsonl"'),
        ("a\r\nb.jsonl", b'filename="a%0D%0Ab.jsonl"'),
        ("é.jsonl", 'filename="é.jsonl"'.encode()),
        ("\udcff.jsonl", b'filename="?.jsonl"'),
    ],
)
def test_a_name_cannot_leave_its_place(path, name, written):
    assert written in b"".join(form_of(path, name))


def test_it_may_be_sent_again(path):
    form = form_of(path)
    assert b"".join(form) == b"".join(form)


def test_progress_counts_the_bytes_of_the_file(path, monkeypatch):
    monkeypatch.setattr(file_form, "BLOCK_BYTES", 5)
    told = []
    list(form_of(path, progress=lambda sent, total: told.append((sent, total))))
    assert told == [(5, 8), (8, 8)]


def test_a_file_that_grows_is_sent_as_it_was(path):
    form = form_of(path)
    path.write_bytes(b"one\ntwo\nthree\n")
    assert len(form) == len(b"".join(form))


def test_a_file_that_shrinks_ends_the_sending_in_words(path):
    form = form_of(path)
    path.write_bytes(b"one\n")
    with pytest.raises(UserError, match=r"a\.jsonl became shorter while it was sent"):
        list(form)


def test_a_large_file_takes_little_memory(tmp_path):
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        file.truncate(LARGE_FILE_BYTES)
    tracemalloc.start()
    try:
        num_bytes = sum(map(len, form_of(path)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_bytes > LARGE_FILE_BYTES
    assert most < 4 * file_form.BLOCK_BYTES
