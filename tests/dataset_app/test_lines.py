"""A file's lines, block by block."""

import pytest

from datasets.reading import lines
from datasets.reading.lines import read_blocks


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Returns lines by their numbers, read in small blocks. A too long one is None."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", 16)
    monkeypatch.setattr(lines, "MAX_EXAMPLE_BYTES", 100)

    def read(content):
        path = tmp_path / "upload.bin"
        path.write_bytes(content)
        return {
            number: None if block.too_long else line
            for block in read_blocks(path)
            for number, line in enumerate(block.lines, start=block.first_line)
        }

    return read


@pytest.mark.parametrize("num_good", [0, 1, 2, 30])
def test_lines_between_overlong_ones_are_kept_and_numbered(read, num_good):
    good = [b"good %d" % number for number in range(num_good)]
    content = [b"a", b"x" * 300, *good, b"y" * 300, b"last"]
    expected = [b"a", None, *good, None, b"last"]
    assert read(b"\n".join(content)) == dict(enumerate(expected, start=1))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("length", range(1, 20))
def test_every_kind_of_line_end_ends_a_line(read, end, length):
    """Wherever a block ends: within a line, before its end, or within the end."""
    expected = [b"x" * length, b"", b"caf\xc3\xa9", b"y" * 300, b"z", b"last"]
    shown = [None if len(line) > 100 else line for line in expected]
    assert read(end.join(expected)) == dict(enumerate(shown, start=1))
    assert read(end.join([*expected, b""])) == dict(enumerate(shown, start=1))


def test_kinds_of_line_ends_may_take_turns(read):
    content = b"a\rb\nc\r\nd\r\re\n\rf"
    expected = [b"a", b"b", b"c", b"d", b"", b"e", b"", b"f"]
    assert read(content) == dict(enumerate(expected, start=1))


def test_an_overlong_last_line_is_one_line(read):
    assert read(b"a\n" + b"x" * 300) == {1: b"a", 2: None}
