"""`openai-ft prepare`: what is written, what is left out, what is said."""

import json

import pytest

from jobs.cli.main import run
from jobs.cli.problems import Problem
from jobs.trainer.text.examples import iter_examples
from tests.support.running_site import ROOT

JOKES = ROOT / "datasets" / "sample_data" / "jokes.jsonl"
CHAT = (
    '{"messages": [{"role": "user", "content": "2 + 2?"},'
    ' {"role": "assistant", "content": "4"}]}'
)


@pytest.fixture
def prepare(tmp_path, capsys):
    """Writes a file, prepares it; what was said."""

    def use(name, content, *flags):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        use.exit_code = run(["prepare", str(path), *flags])
        return capsys.readouterr().out

    return use


def examples(path):
    return list(iter_examples(path))


def test_a_file_in_our_form_is_left_alone(prepare, tmp_path):
    assert "is ready as it is: 240 examples" in prepare("a.jsonl", JOKES.read_bytes())
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["a.jsonl"]


def test_prompts_are_read_and_completions_learned(prepare, tmp_path):
    prepare("a.jsonl", '{"prompt": "2 + 2 =", "completion": " 4"}\n')
    written = examples(tmp_path / "a_prepared.jsonl")
    assert written == [[("2 + 2 =", 0.0), (" 4", 1.0)]]


def test_texts_get_their_weights(prepare, tmp_path):
    prepare("a.jsonl", '{"data": "one"}\n{"data": {"text_list": ["two", " three"]}}')
    written = examples(tmp_path / "a_prepared.jsonl")
    assert written == [[("one", 1.0)], [("two", 1.0), (" three", 1.0)]]


def test_chats_are_checked_and_stay_chats(prepare, tmp_path):
    said = prepare("a.jsonl", f'{CHAT}\n{{"messages": []}}\n')
    assert (tmp_path / "a_prepared.jsonl").read_text() == f"{CHAT}\n"
    assert "line 2: no message is the assistant's" in said


def test_bad_lines_are_named_by_their_numbers(prepare):
    said = prepare("a.jsonl", '{"data": "a"}\n\n{bad\n{"data": 7}\n')
    assert "2 lines left out" in said
    assert "line 3: this is not JSON" in said
    assert "line 4:" in said


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_sheet_with_any_separator(prepare, tmp_path, separator):
    head = separator.join(["Id", "Prompt", "Completion"])
    prepare("a.csv", f'{head}\n1{separator}"Say ""hi"""{separator}" hi\nho"\n')
    written = examples(tmp_path / "a_prepared.jsonl")
    assert written == [[('Say "hi"', 0.0), (" hi\nho", 1.0)]]


def test_rows_of_a_sheet_are_named_by_the_lines_they_begin_at(prepare):
    said = prepare("a.csv", 'prompt,completion\n"a\nb",c\nd,\n')
    assert "1 line left out:\n  line 4: the completion is empty" in said


def test_a_cell_that_was_cut_at_a_separator_is_named(prepare, tmp_path):
    said = prepare(
        "a.csv",
        "prompt,completion,,\n"
        "Refund?,Sorry, not after thirty days.,\n"
        'Ship abroad?,"Yes, to Europe."\n'
        "Parking?,Behind the house.,,\n",
    )
    assert "line 2: it has more cells than there are columns" in said
    assert "Sorry" not in (tmp_path / "a_prepared.jsonl").read_text()
    assert len((tmp_path / "a_prepared.jsonl").read_text().splitlines()) == 2


def test_columns_may_stand_in_any_order_beside_others(prepare, tmp_path):
    prepare("a.csv", ",note,completion,prompt\n0,x,there,Hi\n1,y,Oh,no,Why\n")
    prepared = (tmp_path / "a_prepared.jsonl").read_text()
    assert "there" in prepared
    assert "Oh" not in prepared


def test_a_column_named_twice_is_refused(prepare):
    with pytest.raises(Problem, match="the column prompt twice"):
        prepare("a.csv", "prompt,Prompt,completion\na,b,c\n")


def test_blank_lines_count_as_lines(prepare):
    said = prepare("a.csv", 'prompt,completion\n\n"a\n\nb",c\n\nd,\n')
    assert "line 7: " in said


def test_the_line_of_a_bad_byte_is_told(prepare):
    rows = b"".join(b"question %d,answer\n" % number for number in range(2, 101))
    content = b"prompt,completion\n" + rows + b"caf\xe9,x\n"
    with pytest.raises(Problem, match="line 101: this is not UTF-8"):
        prepare("a.csv", content)


def test_a_sheet_as_spreadsheets_save_it(prepare, tmp_path):
    content = "\ufeffprompt\tcompletion\r\nGröße?\t groß\r\n".encode()
    prepare("a.tsv", content)
    assert examples(tmp_path / "a_prepared.jsonl")[0][0] == ("Größe?", 0.0)


def test_text_is_cut_as_asked(prepare, tmp_path):
    prepare("a.txt", "one\ntwo\n", "--split", "lines")
    written = examples(tmp_path / "a_prepared.jsonl")
    assert written == [[("one", 1.0)], [("two", 1.0)]]


def test_segments_that_meet_are_noticed_and_joined(prepare, tmp_path):
    line = json.dumps({"data": {"text_list": ["India", "New"], "loss_weights": [0, 1]}})
    assert "“IndiaNew”" in prepare("a.jsonl", line)
    assert "segments of 1 example." in prepare("a.jsonl", line, "--join", "space")
    assert examples(tmp_path / "a_prepared.jsonl") == [[("India", 0.0), (" New", 1.0)]]


def test_nothing_is_overwritten(prepare, tmp_path):
    for _ in range(2):
        prepare("a.jsonl", '{"data": "a"}\n')
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {"a.jsonl", "a_prepared.jsonl", "a_prepared_2.jsonl"}


def test_repeats_are_told(prepare):
    said = prepare("a.jsonl", '{"data": "a"}\n{"data": "a"}\n')
    assert "1 example repeats an earlier one" in said


def test_a_file_without_examples_is_no_success(prepare, tmp_path):
    assert "holds no example" in prepare("a.jsonl", "{bad\n")
    assert prepare.exit_code == 2
    assert not list(tmp_path.glob("*_prepared*"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"question,answer\n", "it has question, answer"),
        ("a.csv", b"prompt,completion\n\xff\xfe,a\n", "not UTF-8"),
        ("a.csv", b'prompt,completion\n"a"b,c\n', "line 2"),
        ("a.jsonl", b"PK\x03\x04", "zip or Office .* then prepare that"),
        ("a.xlsx", b"PK\x03\x04", "is a spreadsheet. Save it as CSV UTF-8"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_words(prepare, name, content, words):
    with pytest.raises(Problem, match=words):
        prepare(name, content)


def test_a_file_that_is_not_there():
    with pytest.raises(Problem, match="There is no file"):
        run(["prepare", "nowhere.jsonl"])
