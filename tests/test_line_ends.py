"""Characters that end a line for Python or for a browser, and that end none here.

Between processes and in files only a line feed ends a line, so every text comes through
whatever it holds.
"""

import json
import sys

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from datasets import services
from finetune_site.common.event_stream import (
    LAST_EVENT,
    read_event_stream,
    write_event,
)
from jobs.cli.example_rows import read_rows
from jobs.engines.local import LocalEngine
from jobs.history.log_lines import log_tail, read_log
from jobs.live.page import update
from jobs.trainer.contract.events import EventWriter, read_events
from jobs.trainer.text.examples import dump_line, iter_examples
from tests.playground.test_page import post_for_lines
from tests.support import factories

ENDS = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if len(f"a{chr(code)}b".splitlines()) > 1
]
TEXTS = [f"one{end}two{end}" for end in [*ENDS, "\r\n", "\n\r", "\u2028\n\u2029"]]


def test_all_of_them_are_tried():
    assert {"\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"} <= set(ENDS)


@pytest.mark.parametrize("text", TEXTS)
def test_events_of_a_run_folder(tmp_path, text):
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    for number in (1, 2):
        writer.write("log", step=number, level="info", message=text)
    assert [event["message"] for event in read_events(path)[0]] == [text, text]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("text", TEXTS)
def test_streamed_events_however_they_are_cut(text, size):
    data = b"".join(write_event({"text": text}, number=n) for n in (1, 2)) + LAST_EVENT
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert list(read_event_stream(pieces)) == [{"text": text}] * 2


@pytest.mark.parametrize("text", TEXTS)
def test_lines_of_examples(tmp_path, text):
    path = tmp_path / "examples.jsonl"
    path.write_bytes(dump_line([(text, 0.1), (text, 1.0)]) * 2)
    assert list(iter_examples(path)) == [[(text, 0.1), (text, 1.0)]] * 2


@pytest.mark.django_db
@pytest.mark.parametrize("text", TEXTS)
def test_upload_page_and_download(client, member, text):
    # As programs write it, with the characters as they are.
    line = json.dumps({"prompt": text, "completion": text}, ensure_ascii=False) + "\n"
    version = services.import_dataset_file(
        member=member,
        name="Ends",
        upload=SimpleUploadedFile("ends.jsonl", line.encode() * 3),
    )
    services.import_version(version_id=version.pk)
    version.refresh_from_db()
    assert (version.num_examples, version.num_bad) == (3, 0)
    client.force_login(member)
    url = reverse("dataset-download", args=[version.dataset_id, 1])
    lines = b"".join(client.get(url)).decode().removesuffix("\n").split("\n")
    data = [json.loads(line)["data"]["text_list"] for line in lines]
    assert data == [[text, text]] * 3
    assert client.get(f"/datasets/{version.dataset_id}/?edit=1").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("text", TEXTS)
def test_live_page_and_log(text):
    job = factories.make_job(status="running", prompts=[text], completions_every=1)
    answer = {"prompt_index": 0, "prompt": text, "index": 0, "text": text}
    events = (("completion", answer), ("log", {"level": "info", "message": text}))
    for seq, (kind, data) in enumerate(events, 1):
        job.events.create(
            seq=seq, time="2026-11-22T12:00Z", type=kind, step=1, data=data
        )
    job.last_seq = 2
    job.save()
    [cell] = update(job, after=0, can_work=True)["film"]["cells"]
    assert text in cell["html"]
    assert [line.text for line in read_log(job)] == [text]
    job.folder.mkdir(parents=True)
    (job.folder / "trainer.log").write_bytes(f"before\n{text}after".encode())
    assert log_tail(job) == f"before\n{text}after"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("text", TEXTS)
def test_prompts_and_answers_of_the_playground(member, monkeypatch, text):
    asked = []

    async def complete(self, snapshot, request):
        asked.append(request["prompt"])
        yield {"index": 0, "text": text, "finish_reason": "stop", "tokens": 2}
        yield {"done": True, "usage": {}, "prompt_cut": False, "seconds": 0.1}

    monkeypatch.setattr(LocalEngine, "complete", complete)
    first, _ = post_for_lines(member, prompt=text)
    assert first["text"] == text
    # A browser sends each line feed as CR LF, and the site takes it for one again.
    assert asked == [text.replace("\r\n", "\n")]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("text", TEXTS)
def test_cells_of_tables(tmp_path, text, ending):
    path = tmp_path / f"cells.{ending}"
    between = "," if ending == "csv" else "\t"
    rows = [["prompt", "completion"], [text, "a"], ["b", text]]
    lines = [between.join(f'"{cell}"' for cell in row) for row in rows]
    path.write_bytes("\n".join(lines).encode())
    found = [row.segments for row in read_rows(path, "paragraphs")]
    assert [[cell for cell, _ in segments] for segments in found] == rows[1:]
