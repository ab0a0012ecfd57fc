"""From an uploaded file to a version that is ready."""

import json
import os
import time
from datetime import timedelta

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from django_q.models import OrmQ

from datasets import services
from datasets.models import Dataset, DatasetVersion
from datasets.pages.import_report import import_notes
from datasets.services import claims, imports
from datasets.stored.files import index_path, read_examples
from finetune_site.common.errors import UserError
from jobs.trainer.text import examples

GOOD = b'{"data": {"text_list": ["2 + 2 = ", "4"], "loss_weights": [0.1, 1]}}\n'


def take(member, content, name="sums.jsonl", **choices):
    version = services.import_dataset_file(
        member=member,
        name=choices.pop("called", "Sums"),
        upload=SimpleUploadedFile(name, content),
        **choices,
    )
    services.import_version(version_id=version.pk)
    version.refresh_from_db()
    return version


def examples_in(version):
    return list(examples.iter_examples(version.examples_path))


def test_json_lines_of_which_one_is_spoilt_are_json_lines(member):
    good = b'{"data": "a"}\n' * 12
    version = take(member, good + b"{oops\n", "replies.txt")
    assert (version.num_examples, version.problems[0]["line"]) == (12, 13)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_lines_that_were_encoded_again_are_refused(member, times, name):
    line = '{"prompt": "a", "completion": "b"}'
    for _ in range(times):
        line = json.dumps(line)
    version = take(member, f"{line}\n".encode() * 3, name)
    assert version.status == DatasetVersion.Status.FAILED
    assert "encoded twice or more" in version.problems[0]["message"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"prompt": "a", "prompt": "b", "completion": "c"}',
        b'{"data": {"text_list": ["a"], "loss_weights": [1], "loss_weights": [0.5]}}',
        b'{"messages": [{"role": "user", "content": "a"}, '
        b'{"role": "assistant", "content": "b", "content": "c"}]}',
    ],
)
def test_a_key_that_stands_twice_is_refused(member, line):
    fine = b'{"prompt": "prompt", "completion": "\\"prompt\\""}\n'
    version = take(member, fine * 3 + line, "a.jsonl")
    assert version.num_examples == 3
    assert "stands there twice" in version.problems[0]["message"]


def test_segments_beyond_the_most_are_refused_in_whole_blocks(member):
    most, more = (
        json.dumps({"data": {"text_list": ["a"] * n, "loss_weights": [1] * n}})
        for n in (10_000, 10_001)
    )
    bare = json.dumps({"data": {"text_list": ["a"] * 10_001}})
    version = take(member, "\n".join([most, more, bare]).encode(), "a.jsonl")
    assert (version.num_examples, len(version.problems)) == (1, 2)


def test_json_lines_are_known_whatever_the_file_is_called(member):
    lines = b'\n{"prompt": "a", "completion": "b"}\r\n' * 4
    version = take(member, lines, "replies.jsonl.txt")
    assert (version.num_examples, version.forms) == (4, {"prompt": 4})
    assert "Read as JSON lines" in version.note


def test_a_text_with_a_line_in_braces_stays_a_text(member):
    version = take(member, b'He wrote\n{"prompt": "a", "completion": "b"}', "a.txt")
    assert version.num_examples == 1
    assert not version.note


def test_what_was_encoded_twice_is_refused_and_quoted_prose_is_not(member):
    twice = b'"{\\"prompt\\": \\"a\\", \\"completion\\": \\"b\\"}"\n'
    version = take(member, twice + b'"He said \\"wait\\" and left."\n')
    assert (version.num_examples, version.num_bad) == (1, 1)
    assert "encoded twice" in version.problems[0]["message"]


@pytest.mark.parametrize(
    ("line", "segments"),
    [
        (b'"ab"', [("ab", 1)]),
        (b'{"data": "ab"}', [("ab", 1)]),
        (b'{"data": {"text_list": ["a", "b"]}}', [("a", 1), ("b", 1)]),
        (b'{"text_list": ["a", " b"]}', [("a", 1), (" b", 1)]),
        (
            b'{"data": {"text_list": ["a", "b"], "loss_weights": [0, 0.5]}}',
            [("a", 0), ("b", 0.5)],
        ),
    ],
)
def test_every_form_is_read(member, line, segments):
    assert examples_in(take(member, line)) == [segments]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"\xff\xff", "not UTF-8"),
        (b'{"data": ', "not JSON"),
        (b"3", "expected a text or an object, found a number"),
        (b'{"data": {"text_list": "a"}}', "put it into brackets"),
        (b'{"data": {"text_list": ["a", 3]}}', "text 2 of text_list is a number"),
        (b'{"data": {"text_list": []}}', "no text"),
        (b'{"data": {"text_list": ["", ""]}}', "no text"),
        (b'{"data": {"text_list": ["a"], "loss_weights": [1, 2]}}', "1 text but 2"),
        (b'{"data": {"text_list": ["a"], "loss_weights": [-1]}}', "from 1e-06 to 100"),
        (b'{"data": {"text_list": ["a"], "loss_weights": [1e-7]}}', "from 1e-06"),
        (b'{"data": {"text_list": ["a"], "loss_weights": [1e300]}}', "to 100"),
        (b'{"data": {"text_list": ["a"], "loss_weights": [NaN]}}', "not JSON"),
        (b'{"data": {"text_list": ["a"], "loss_weights": [1e999]}}', ""),
        (b'{"data": {"text_list": ["a"], "loss_weights": [true]}}', "true or false"),
        (b'{"data": {"text_list": ["a"], "loss_weights": ["1"]}}', "is a text"),
        (b'{"data": {"text_list": ["a"], "weights": [1]}}', 'unknown key "weights"'),
        (b'{"data": "a", "id": 7}', 'unknown key "id"'),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_kept(member, line, words):
    version = take(member, GOOD + line + b"\n" + GOOD)
    assert (version.status, version.num_examples, version.num_bad) == ("ready", 2, 1)
    [problem] = version.problems
    assert problem["line"] == 2
    assert words in problem["message"]


def test_a_file_without_a_good_line_fails_and_says_why(member):
    version = take(member, b"{\n[]\n")
    assert version.status == DatasetVersion.Status.FAILED
    assert "None of the 2 lines could be used. Line 1: " in version.status_message
    assert [problem["line"] for problem in version.problems] == [1, 2]


def test_a_hostile_key_is_cut_short_and_holds_no_nul(member):
    key = b"\\u0000" + b"k" * 5000
    version = take(member, GOOD + b'{"' + key + b'": 1}\n')
    [problem] = version.problems
    assert len(problem["message"]) <= 400
    assert "\x00" not in problem["message"] + problem["text"]


def test_only_the_first_hundred_problems_are_kept(member):
    version = take(member, GOOD + b"3\n" * 150)
    assert (version.num_bad, len(version.problems)) == (150, 100)


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_do_no_harm(member):
    content = b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b"\r\n \r\n" + GOOD
    version = take(member, content)
    assert (version.num_examples, version.num_bad) == (2, 0)


@pytest.mark.parametrize(
    ("split", "texts"),
    [
        ("paragraphs", ["One.\nStill one.", "Two."]),
        ("lines", ["One.", "Still one.", "Two."]),
        ("whole", ["One.\nStill one.\n\n\nTwo."]),
    ],
)
def test_text_is_cut_as_asked(member, split, texts):
    content = b"\nOne.\r\nStill one.\r\n\n\nTwo.\n\n"
    version = take(member, content, "story.txt", text_split=split)
    assert examples_in(version) == [[(text, 1.0)] for text in texts]


def test_a_paragraph_that_is_no_utf8_is_named_by_its_line(member):
    version = take(member, b"Good.\n\nGood so far\ncaf\xe9\n", "story.txt")
    assert version.num_examples == 1
    assert [problem["line"] for problem in version.problems] == [4]


def test_the_index_holds_where_every_line_starts(member):
    version = take(member, b'"a"\n"\\u00e9\\u00e9"\n"c"\n')
    content = version.examples_path.read_bytes()
    starts = np.fromfile(index_path(version.examples_path), dtype="<u8")
    assert [content[start:].split(b'"')[5] for start in starts] == [
        b"a",
        "éé".encode(),
        b"c",
    ]


def test_any_example_is_read_without_those_before(member):
    version = take(member, b"".join(b'"text %d"\n' % n for n in range(10_000)))
    assert list(read_examples(version.examples_path, 9_998, 25)) == [
        [("text 9998", 1.0)],
        [("text 9999", 1.0)],
    ]


def test_an_import_that_was_killed_is_done_again_with_the_same_result(member):
    version = take(member, GOOD * 3 + b"7\n")
    (version.folder / "upload.bin").write_bytes(GOOD * 3 + b"7\n")
    before = version.examples_path.read_bytes(), version.sha256, version.shares
    killed = version.examples_path.with_name("examples.jsonl.part-1")
    killed.write_bytes(b"half a li")
    DatasetVersion.objects.update(
        status="importing", claimed_at=timezone.now() - timedelta(seconds=16)
    )
    services.import_version(version_id=version.pk)
    version.refresh_from_db()
    assert version.status == "ready"
    assert before == (
        version.examples_path.read_bytes(),
        version.sha256,
        version.shares,
    )
    assert not killed.exists()


@pytest.mark.parametrize("content", [GOOD, GOOD + b"7\n", b"7\n"])
def test_the_upload_goes_when_its_import_is_over(member, content):
    version = take(member, content)
    assert version.status != "importing"
    assert not (version.folder / "upload.bin").exists()


def test_uploads_that_nobody_will_import_are_removed_in_the_end(member, data_dir):
    importing = take(member, GOOD)
    DatasetVersion.objects.update(status="importing")
    uploads = [
        data_dir / "datasets" / name / "upload.bin"
        for name in (importing.uid, "without-a-row", "without-a-row-yet")
    ]
    for upload in uploads:
        upload.parent.mkdir(exist_ok=True)
        upload.write_bytes(GOOD)
    for upload in uploads[:2]:
        os.utime(upload, (0, 0))
    assert services.remove_left_uploads() == 1
    assert [upload.exists() for upload in uploads] == [True, False, True]


def test_an_import_that_is_alive_is_left_alone(member):
    version = take(member, GOOD)
    DatasetVersion.objects.update(status="importing", claimed_at=timezone.now())
    services.import_version(version_id=version.pk)
    version.refresh_from_db()
    assert version.status == "importing"


def test_a_stale_import_is_enqueued_once_again(member):
    take(member, GOOD)
    DatasetVersion.objects.update(
        status="importing",
        claimed_at=None,
        created_at=timezone.now() - timedelta(seconds=16),
    )
    assert services.requeue_stale_imports() == 1


@pytest.mark.django_db(transaction=True)
def test_no_task_is_added_while_others_wait(member):
    take(member, GOOD)
    DatasetVersion.objects.update(
        status="importing",
        claimed_at=None,
        created_at=timezone.now() - timedelta(seconds=16),
    )
    assert OrmQ.objects.count() == 1
    assert services.requeue_stale_imports() == 0


@pytest.mark.parametrize(
    ("joiner", "texts"),
    [
        (" ", ["What?", " This", " that"]),
        ("\n", ["What?\n", "This", " that"]),
        ("", ["What?", "This", " that"]),
    ],
)
def test_segments_are_joined_as_asked(member, joiner, texts):
    line = b'{"text_list": ["What?", "This", " that"]}'
    version = take(member, line, joiner=joiner)
    assert [text for text, _ in examples_in(version)[0]] == texts
    assert version.num_unspaced == (0 if joiner else 1)


def test_shares_count_segments_and_characters_by_place_and_weight(member):
    version = take(member, GOOD * 2)
    kept = [
        (part["position"], part["last"], part["weight"], part["segments"])
        for part in version.shares
    ]
    assert kept == [(0, False, 0.1, 2), (1, True, 1.0, 2)]
    assert [part["characters"] for part in version.shares] == [16, 2]


def test_many_weights_keep_few_shares(member):
    lines = (
        b'{"text_list": ["a", "b"], "loss_weights": [0, 0.%d]}\n' % n
        for n in range(10, 9999)
    )
    version = take(member, b"".join(lines))
    assert len(version.shares) <= 20
    assert sum(part["characters"] for part in version.shares) == 2 * 9989


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.docx", GOOD, "none of .jsonl, .txt, .csv"),
        ("a.jsonl", b"", "is empty"),
        ("a.txt", "hello".encode("utf-16"), "UTF-16"),
        ("a.txt", "hello".encode("utf-16-le"), "UTF-16"),
        ("a.jsonl", "hello".encode("utf-16-be"), "UTF-16"),
        ("a.txt", "hello".encode("utf-32"), "UTF-32"),
        ("a.txt", b'[{"data": "a"}, {"data": "b"}]', "one JSON list"),
        ("a.jsonl", b'[\n  {"data": "a"},\n  {"data": "b"}\n]\n', "one JSON list"),
        ("a.txt", b'{\n  "data": "a"\n}\n', "JSON over many lines"),
        ("a.csv", b"question,answer\n1,2\n", "no columns named prompt and completion"),
        ("a.xlsx", b"prompt,completion\n", "no .xlsx workbook"),
        ("a.jsonl", b"PK\x03\x04....", "a zip or Office file"),
    ],
)
def test_a_file_that_cannot_work_is_refused_at_once(member, name, content, words):
    with pytest.raises(UserError, match=words) as caught:
        take(member, content, name)
    assert caught.value.field == "file"
    assert not Dataset.objects.exists()


def test_a_file_that_is_too_large_is_refused(member, settings):
    settings.MAX_UPLOAD_BYTES = 10
    with pytest.raises(UserError, match="at most"):
        take(member, GOOD)


def test_names_are_unique_whatever_their_case(member):
    take(member, GOOD, called="Sums")
    with pytest.raises(UserError, match="already") as caught:
        take(member, GOOD, called="  sUMS ")
    assert caught.value.field == "name"


def test_a_second_file_becomes_the_next_version(member):
    first = take(member, GOOD)
    second = take(member, GOOD * 2, dataset=first.dataset)
    assert (second.dataset, second.number) == (first.dataset, 2)


def test_a_refused_file_leaves_nothing_behind(member, data_dir):
    with pytest.raises(UserError):
        take(member, b"PK\x03\x04....")
    assert not list((data_dir / "datasets").iterdir())


@pytest.mark.django_db(transaction=True)
def test_an_import_is_alive_however_long_one_line_takes(member, monkeypatch):
    version = services.import_dataset_file(
        member=member, name="Slow", upload=SimpleUploadedFile("slow.jsonl", GOOD)
    )
    monkeypatch.setattr(claims, "CLAIM_SECONDS", 0.6)
    monkeypatch.setattr(imports, "CLAIM_SECONDS", 0.6)
    real, unclaimed = imports._write_files, []

    def slow(*args):
        time.sleep(1.5)
        unclaimed.extend(claims.unclaimed(timezone.now()))
        return real(*args)

    monkeypatch.setattr(imports, "_write_files", slow)
    services.import_version(version_id=version.pk)
    version.refresh_from_db()
    assert (unclaimed, version.status) == ([], DatasetVersion.Status.READY)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD, []),
        (GOOD * 2, ["1 example is a repeat: "]),
        (GOOD * 3, ["2 examples are repeats: "]),
    ],
)
def test_exact_repeats_are_counted_and_told(member, content, says):
    notes = import_notes(take(member, content))
    assert [note[: len(start)] for note, start in zip(notes, says, strict=True)] == says
