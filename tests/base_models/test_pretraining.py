"""The tool that makes the base model which ships, tried with a few thousand weights."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from transformers import AutoModelForCausalLM

from jobs.base_models import build_tiny
from jobs.base_models.pretraining import finish, training
from jobs.base_models.pretraining.card import STORY_PROMPTS, sample_lines
from jobs.base_models.pretraining.errors import BuildError
from jobs.base_models.pretraining.folder import BuildFolder
from jobs.base_models.pretraining.history import read_history
from jobs.base_models.pretraining.material import Texts, encode_texts, learnable
from jobs.base_models.pretraining.optimizers import Muon
from jobs.base_models.pretraining.options import parse
from jobs.base_models.pretraining.rows import Rows, Stage
from jobs.base_models.pretraining.slurs import digest
from jobs.base_models.pretraining.texts import (
    Source,
    clean,
    passages_of,
    read_held_out,
    read_source,
    read_sources,
    without_documents,
    without_passages,
    without_slurs,
)
from jobs.base_models.pretraining.vocabulary import train_tokenizer
from jobs.trainer.answering.generation import Completion
from jobs.trainer.contract.runfolder import RunFolder
from jobs.trainer.text.encoding import encode_text
from tests.support.paths import SAMPLES

STORIES = (SAMPLES / "stories.txt").read_text()
SMALL = (
    "--no-compile --vocabulary 320 --width 32 --layers 1 --heads 2 --feed-forward 64 "
    "--tokens-per-step 1024"
)
SECRET = "one two three four five six seven eight nine ten eleven twelve thirteen"


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    """The model of each build writes a few words, and not the stories of its card."""
    monkeypatch.setattr(finish, "SAMPLING", replace(finish.SAMPLING, max_tokens=8))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([STORIES], 400)


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "stories.txt").write_text(STORIES)
    (folder / "heldout-stories.txt").write_text(STORIES[:5000][::-1])
    return folder


def options(steps):
    return ["--tokens", str(steps * 1024), *SMALL.split()]


def build(texts, out, *flags, steps=50):
    return build_tiny.main([str(texts), str(out), *options(steps), *flags])


def weights(out):
    return load_file(out / "checkpoint" / "50" / "model.safetensors")


def test_what_is_measured_by_is_never_learned_from(texts):
    assert [source.name for source in read_sources(texts)] == ["stories"]


def test_a_held_out_file_is_refused(texts):
    with pytest.raises(BuildError, match="for measuring"):
        read_source(texts / "heldout-stories.txt")


def test_paragraphs_with_a_held_out_passage_are_dropped():
    held_out = passages_of([Source("x", (f"They counted {SECRET}.",))])
    text = f"Before it.\n{SECRET.upper()}!\nAnd what comes behind it."
    kept, num_dropped = without_passages(Source("y", (text,)), held_out)
    assert kept.documents == ("Before it.\nAnd what comes behind it.",)
    assert num_dropped == 1


def test_a_passage_over_two_paragraphs_takes_both_along():
    held_out = passages_of([Source("x", (SECRET,))])
    text = "A first line.\n" + SECRET.replace("six", "six\n") + "\nA last line."
    kept, num_dropped = without_passages(Source("y", (text,)), held_out)
    assert kept.documents == ("A first line.\nA last line.",)
    assert num_dropped == 2


def test_fewer_words_in_common_are_nothing():
    held_out = passages_of([Source("x", (SECRET,))])
    source = Source("y", (SECRET.removesuffix(" thirteen"),))
    assert without_passages(source, held_out) == (source, 0)


def test_paragraphs_with_slurs_are_dropped():
    source = Source("x", ("They sat down to eat.\nTURNIPS, he said.\nAnd they ate.",))
    kept, num_dropped = without_slurs(source, frozenset({digest("turnip")}))
    assert kept.documents == ("They sat down to eat.\nAnd they ate.",)
    assert num_dropped == 1


def test_what_stands_side_by_side_after_a_drop_is_looked_at_again():
    begin, end = SECRET.split(" seven ")
    text = f"{begin}\nTurnip {SECRET}\nseven {end}\nAnd what comes behind it."
    held_out = [Source("x", (SECRET,))]
    [kept] = learnable([Source("y", (text,))], held_out)
    assert kept.documents == ("And what comes behind it.",)


def test_held_out_documents_too_short_for_a_passage_are_known_as_a_whole():
    held_out = [Source("x", ("He laughed aloud, and went home.",))]
    kept, num_dropped = without_documents(
        Source("y", (*held_out[0].documents, "She stayed where she was.")), held_out
    )
    assert kept.documents == ("She stayed where she was.",)
    assert num_dropped == 1


@pytest.mark.parametrize("held_out", ["cafe\u0301", "ca\u00adfé", "ｃａｆé"])
def test_a_passage_is_known_however_its_characters_are_written(held_out):
    passage = f"{{}} {SECRET}"
    passages = passages_of([Source("x", (passage.format(held_out),))])
    source = Source("y", (clean(passage.format("café")),))
    assert without_passages(source, passages)[0].documents == ()


def test_files_whose_names_end_in_capitals_are_texts_too(texts):
    (texts / "heldout-more.TXT").write_text("They held it back for later.")
    assert [source.name for source in read_held_out(texts)] == ["more", "stories"]


def test_a_passage_is_known_over_the_borders_of_documents():
    passages = passages_of([Source("x", tuple(SECRET.split()))])
    assert without_passages(Source("y", (SECRET,)), passages)[1] == 1


@pytest.mark.parametrize(
    "text",
    [
        "First story.\n\nIts end.\n<|endoftext|>\nSecond story.",
        "First story.\n\nIts end.\r\n  <|endoftext|>\t\r\nSecond story.",
        "<|endoftext|>\nFirst story.\n\nIts end.\n<|endoftext|>\nSecond story.\n"
        "<|endoftext|>",
    ],
)
def test_documents_end_at_lines_with_the_separator(tmp_path, text):
    path = tmp_path / "heldout-a.txt"
    path.write_text(text, encoding="utf-8-sig", newline="")
    [source] = read_held_out(tmp_path)
    assert source.documents == ("First story.\n\nIts end.", "Second story.")


def test_without_one_they_end_at_blank_lines(tmp_path):
    (tmp_path / "heldout-a.txt").write_text("First\nquestion\n \nSecond question\n")
    [source] = read_held_out(tmp_path)
    assert source.documents == ("First\nquestion", "Second question")


def test_a_separator_within_a_line_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("One.\n<|endoftext|>\nSecond <|endoftext|> story.")
    with pytest.raises(BuildError, match=r"a\.txt has .* of its document 2"):
        read_source(path)


def test_cleaning_leaves_one_way_to_write_a_text():
    text = "Cafe\u0301\u200b \r\n\n\n\nau\u00a0lait\x07 \x0cnext page"
    assert clean(text) == "Café\n\nau lait\nnext page"


@given(text=st.text())
def test_any_text_round_trips(tokenizer, text):
    assert tokenizer.decode(encode_text(tokenizer, text)) == text


def rows_of(tokenizer, seed=1):
    texts = Texts([Source("s", (STORIES[:9000],) * 3)], [])
    sources = encode_texts(texts, tokenizer, {"s": 2}).encoded
    stages = [Stage(0.5, 32), Stage(0.5, 64)]
    return Rows(sources, stages, tokens_per_step=256, total_steps=100, seed=seed)


def test_rows_follow_from_seed_and_step(tokenizer):
    rows = rows_of(tokenizer)
    later = rows.of_step(90)
    rows.of_step(3)
    assert np.array_equal(rows.of_step(90), later)
    assert not np.array_equal(rows_of(tokenizer, seed=2).of_step(90), later)


def test_each_stage_has_rows_of_its_length(tokenizer):
    rows = rows_of(tokenizer)
    assert rows.of_step(50).shape == (8, 33)
    assert rows.of_step(51).shape == (4, 65)


def test_the_same_seed_builds_the_same_weights(texts, tmp_path):
    assert build(texts, tmp_path / "a") == build(texts, tmp_path / "b") == 0
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_a_build_that_was_broken_off_goes_on(texts, tmp_path, monkeypatch):
    dropout = ("--dropout", "0.1")
    build(texts, tmp_path / "whole", *dropout)

    class KilledError(Exception):
        pass

    def tell(folder, line):
        folder.tell(line)
        if line["step"] == 21:
            raise KilledError

    monkeypatch.setattr(build_tiny, "tell", tell)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(KilledError):
        build(texts, tmp_path / "broken", *dropout)
    monkeypatch.undo()
    build(texts, tmp_path / "broken", *dropout)
    # It is killed once more, after the last step.
    build(texts, tmp_path / "broken", *dropout)
    lines = (tmp_path / "broken" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 51))
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_the_model_has_its_embeddings_once(texts, tmp_path):
    build(texts, tmp_path / "a", steps=2)
    folder = tmp_path / "a" / "model"
    with safe_open(folder / "model.safetensors", "np") as file:
        assert not [name for name in file.keys() if "lm_head" in name]  # noqa: SIM118
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert model.dtype == torch.bfloat16
    card = (folder / "MODEL_CARD.md").read_text()
    assert f"| Parameters | {model.num_parameters():,} |" in card


def test_minutes_become_tokens_by_a_trial(texts, tmp_path):
    options = ["--minutes", "0.001", *SMALL.split()]
    assert build_tiny.main([str(texts), str(tmp_path / "a"), *options]) == 0
    plan = json.loads((tmp_path / "a" / "plan.json").read_text())
    assert plan["tokens"] > 0


def test_rates_too_high_end_the_build_before_it_is_spoilt(texts, tmp_path, capsys):
    options = ["--tokens", "10240", *SMALL.split(), "--other-rate", "1e11"]
    assert build_tiny.main([str(texts), str(tmp_path / "a"), *options]) == 2
    assert "came to no number" in capsys.readouterr().err
    assert not (tmp_path / "a" / "model").exists()


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ("--passes stories=2 stories=3", "names a text twice"),
        ("--heads 3", "cannot be shared by 3 heads"),
        ("--vocabulary 100", "257 to 65,536"),
        ("--context 512", "the context is at least that"),
        ("--passes storys=3", "no storys.txt"),
        ("--tokens-per-step 1500", "a multiple of 1,024"),
        ("--tokens-per-step 102400", "do not fill one step"),
    ],
)
def test_settings_that_cannot_be_are_refused(texts, tmp_path, capsys, flags, fault):
    options = ["--tokens", "2048", *SMALL.split(), *flags.split()]
    assert build_tiny.main([str(texts), str(tmp_path / "a"), *options]) == 2
    assert fault in capsys.readouterr().err
    # Nothing is left that would be in the way of a better command.
    assert build(texts, tmp_path / "a", steps=1) == 0


@pytest.mark.parametrize(
    "flags",
    [
        "--tokens 0",
        "--tokens x",
        "--minutes -1",
        "--minutes nan",
        "--seed -1",
        "--dropout 1",
        "--kept 1",
        "--taught 0",
        "--tokens 1.5",
        "--passes stories",
        "--passes stories=1.5",
    ],
)
def test_numbers_that_cannot_be_are_refused(texts, tmp_path, capsys, flags):
    is_budget = flags.startswith(("--tokens", "--minutes"))
    budget = [] if is_budget else ["--tokens", "1k"]
    with pytest.raises(SystemExit):
        build_tiny.main([str(texts), str(tmp_path / "a"), *budget, *flags.split()])
    assert re.search(r"'\S+' is not a ", capsys.readouterr().err)


def test_seed_and_decay_may_be_0():
    asked = parse(["TEXTS", "OUT", "--tokens", "1k", "--seed", "0", "--decay", "0"])
    assert (asked.seed, asked.decay) == (0, 0)


def test_a_later_build_goes_on_from_an_earlier_model(texts, tmp_path):
    build(texts, tmp_path / "a", steps=20)
    earlier = tmp_path / "a" / "model"
    more = ["--start-from", str(earlier), "--passes", "stories=3", *options(steps=3)]
    assert build_tiny.main([str(texts), str(tmp_path / "b"), *more]) == 0
    model, log = tmp_path / "b" / "model", tmp_path / "b" / "log.jsonl"
    tokenizers = [(one / "tokenizer.json").read_bytes() for one in (earlier, model)]
    assert tokenizers[0] == tokenizers[1]
    first = json.loads(log.read_text().splitlines()[0])["loss"]
    begun = json.loads((tmp_path / "a" / "log.jsonl").read_text().splitlines()[0])
    assert first < begun["loss"] - 0.5
    builds = read_history(model)
    assert [build.tokens for build in builds] == [20480, 3072]
    assert "--start-from EARLIER --passes stories=3" in builds[1].command
    card = (model / "MODEL_CARD.md").read_text()
    assert str(tmp_path) not in card


def test_a_share_of_an_earlier_model_is_kept(texts, tmp_path, capsys):
    assert build(texts, tmp_path / "a", "--kept", "0.5", steps=1) == 2
    assert "--start-from" in capsys.readouterr().err
    build(texts, tmp_path / "a", steps=20)
    earlier = tmp_path / "a" / "model"
    more = ["--start-from", str(earlier), "--seed", "2"]
    build(texts, tmp_path / "b", *more, steps=9)
    build(texts, tmp_path / "c", *more, "--kept", "0.75", steps=9)
    before, alone, mean = (
        load_tensors(tmp_path / name / "model" / "model.safetensors") for name in "abc"
    )
    for name, weight in mean.items():
        expected = torch.lerp(before[name].float(), alone[name].float(), 0.25)
        assert torch.allclose(weight.float(), expected, rtol=0.01, atol=1e-3)
    assert not torch.equal(mean[name], before[name])
    assert "--kept 0.75" in (tmp_path / "c" / "model" / "MODEL_CARD.md").read_text()


def test_a_build_learns_from_teachers_what_they_foresee(texts, tmp_path):
    build(texts, tmp_path / "a", steps=60)
    teacher = tmp_path / "a" / "model"
    out = tmp_path / "b"
    build(texts, out, "--teachers", str(teacher), str(teacher), "--taught", "1")
    # The loss is that of the text, although only the teachers are learned from here.
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").open()]
    assert losses[-1] < losses[0] - 1
    builds = read_history(out / "model")
    assert [(build.tokens, build.teaches) for build in builds] == [
        (61440, True),
        (61440, True),
        (51200, False),
    ]
    assert "--teachers TEACHER TEACHER --taught 1.0" in builds[2].command
    card = (out / "model" / "MODEL_CARD.md").read_text()
    assert "| 1, a teacher |" in card
    assert str(tmp_path) not in card


def test_a_teacher_reads_the_same_tokens(texts, tmp_path, capsys):
    build(texts, tmp_path / "a", steps=1)
    for other in ("a/model", "nothing"):
        taught = ["--teachers", str(tmp_path / other), "--vocabulary", "300"]
        assert build(texts, tmp_path / "b", *taught, steps=1) == 2
    told = capsys.readouterr().err
    assert "has another --vocabulary, not 300" in told
    assert "holds no model" in told
    (texts / "stories.txt").write_text(STORIES[:9000])
    taught = ["--teachers", str(tmp_path / "a" / "model")]
    assert build(texts, tmp_path / "b", *taught, steps=1) == 2
    assert "has another tokenizer" in capsys.readouterr().err


def test_a_teacher_of_both_builds_is_told_once(texts, tmp_path):
    build(texts, tmp_path / "a", steps=1)
    taught = ["--teachers", str(tmp_path / "a" / "model")]
    build(texts, tmp_path / "b", *taught, steps=2)
    more = ["--start-from", str(tmp_path / "b" / "model"), *taught]
    build(texts, tmp_path / "c", *more, steps=3)
    builds = read_history(tmp_path / "c" / "model")
    assert [build.steps for build in builds] == [1, 2, 3]


def test_a_teacher_may_move_but_not_change(texts, tmp_path, capsys):
    build(texts, tmp_path / "a", steps=2)
    build(texts, tmp_path / "b", "--seed", "2", steps=2)
    teacher = tmp_path / "teacher"
    shutil.copytree(tmp_path / "a" / "model", teacher)
    assert build(texts, tmp_path / "c", "--teachers", str(teacher), steps=2) == 0
    moved = teacher.rename(tmp_path / "moved")
    assert build(texts, tmp_path / "c", "--teachers", str(moved), steps=2) == 0
    other = str(tmp_path / "b" / "model")
    assert build(texts, tmp_path / "c", "--teachers", other, steps=2) == 2
    assert "other teachers" in capsys.readouterr().err


def test_a_model_of_other_texts_is_told_of(texts, tmp_path, caplog):
    build(texts, tmp_path / "a", steps=1)
    model = str(tmp_path / "a" / "model")
    assert build(texts, tmp_path / "b", "--start-from", model, steps=1) == 0
    assert "other texts" not in caplog.text
    # Text that the first build learned from is held out now.
    (texts / "heldout-stories.txt").write_text(STORIES[:5000])
    assert build(texts, tmp_path / "c", "--start-from", model, steps=1) == 0
    assert "perhaps from what is held out here" in caplog.text


def test_a_finished_model_stays_when_its_checkpoints_are_gone(texts, tmp_path, capsys):
    out = tmp_path / "a"
    build(texts, out, steps=2)
    shutil.rmtree(out / "checkpoint")
    before = (out / "model" / "model.safetensors").read_bytes()
    assert build(texts, out, steps=3) == 2
    assert "other settings" in capsys.readouterr().err
    assert (out / "model" / "model.safetensors").read_bytes() == before
    assert build(texts, out, steps=2) == 0


@pytest.mark.parametrize(
    "name", ["history.json", "tokenizer.json", "model.safetensors"]
)
def test_broken_files_of_an_earlier_model_are_named(texts, tmp_path, capsys, name):
    build(texts, tmp_path / "a", steps=1)
    model = tmp_path / "a" / "model"
    (model / name).write_text("{broken")
    for flag in ("--start-from", "--teachers"):
        assert build(texts, tmp_path / "b", flag, str(model), steps=1) == 2
        assert "Traceback" not in (told := capsys.readouterr().err)
        assert told.strip()


def test_muon_steps_as_torchs_own_does():
    generator = torch.Generator().manual_seed(1)
    shapes = [(8, 8), (24, 8), (8, 8), (8, 24)]
    ours, theirs = (
        [torch.nn.Parameter(torch.full(shape, 0.5)) for shape in shapes]
        for _ in range(2)
    )
    steppers = [
        Muon(ours, lr=0.02, decay=0.1),
        torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1),
    ]
    for _ in range(3):
        for own, other in zip(ours, theirs, strict=True):
            own.grad = torch.randn(own.shape, generator=generator)
            other.grad = own.grad.clone()
        for stepper in steppers:
            stepper.step()
    for own, other in zip(ours, theirs, strict=True):
        assert torch.allclose(own, other, atol=1e-3)
        assert not torch.allclose(own, torch.full_like(own, 0.5), atol=1e-3)


def test_a_model_of_another_shape_is_no_start(texts, tmp_path, capsys):
    build(texts, tmp_path / "a", steps=1)
    more = [*options(steps=1), "--start-from", str(tmp_path / "a" / "model")]
    out = str(tmp_path / "b")
    assert build_tiny.main([str(texts), out, *more, "--width", "64"]) == 2
    assert "has hidden_size 32, not 64" in capsys.readouterr().err
    assert build_tiny.main([str(texts), out, *options(1), "--start-from", out]) == 2
    assert "holds no model" in capsys.readouterr().err


def test_files_of_others_are_left_alone(texts, tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("Dear Ann")
    assert build(texts, tmp_path, steps=1) == 2
    assert "holds other files" in capsys.readouterr().err


def test_a_start_that_was_killed_leaves_nothing_in_the_way(
    texts, tmp_path, monkeypatch
):
    def fill(self, numerics):
        raise OSError("No space left on device")

    monkeypatch.setattr(RunFolder, "write_numerics", fill)
    assert build(texts, tmp_path / "a", steps=1) == 2
    (tmp_path / "a" / ".plan.json.1").touch()
    monkeypatch.undo()
    assert build(texts, tmp_path / "a", steps=1) == 0


def test_an_end_that_was_killed_leaves_no_draft(texts, tmp_path):
    draft = tmp_path / "a" / ".model.1"
    build(texts, tmp_path / "a", steps=1)
    others = tmp_path / "a" / ".git"
    draft.mkdir()
    others.mkdir()
    build(texts, tmp_path / "a", steps=1)
    assert (draft.exists(), others.exists()) == (False, True)


def test_two_builds_in_one_folder_are_one_too_many(texts, tmp_path, capsys):
    folder = BuildFolder(tmp_path / "a")
    with folder.claimed():
        assert build(texts, tmp_path / "a", steps=1) == 2
    assert "Another process" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["heldout.txt", "Held-out-b.txt", "my_held_out.txt"])
def test_names_that_are_nearly_held_out_are_refused(texts, tmp_path, capsys, name):
    (texts / name).write_text(STORIES[:5000])
    assert build(texts, tmp_path / "a", steps=1) == 2
    assert "for measuring" in capsys.readouterr().err


def test_texts_that_are_held_out_too_leave_nothing_to_learn(texts, tmp_path, capsys):
    (texts / "more.txt").write_text((texts / "heldout-stories.txt").read_text())
    assert build(texts, tmp_path / "a", steps=1) == 2
    assert "more.txt holds nothing to learn from" in capsys.readouterr().err


def test_the_card_says_what_was_learned_and_how_to_do_it_again(texts, tmp_path):
    build(texts, tmp_path / "a", steps=2)
    card = (tmp_path / "a" / "model" / "MODEL_CARD.md").read_text()
    assert re.search(r"\| 1, this model \| [\d,]+ \| 2,048 \| 2 \|", card)
    assert "teacher foresees" not in card
    assert "| bits per byte, stories |" in card
    assert all(f"> **{prompt}**" in card for prompt in STORY_PROMPTS)
    [command] = re.findall("build_tiny TEXTS OUT1 (.*)", card)
    again = parse([str(texts), str(tmp_path), *command.split()])
    asked = parse([str(texts), str(tmp_path), *options(steps=2)])
    assert again == asked


def test_control_characters_of_a_sample_are_not_in_the_card():
    answer = Completion("\x1b[2J\x00 he said.\x85Bye", "stop", ())
    assert list(sample_lines([("Tom", answer)])) == [
        "> **Tom**\ufffd[2J\ufffd he said.",
        "> Bye",
        "",
    ]


def test_a_build_with_nothing_to_measure_by_comes_to_its_end(texts, tmp_path):
    (texts / "heldout-stories.txt").unlink()
    assert build(texts, tmp_path / "a", steps=2) == 0
    assert "Held-out" not in (tmp_path / "a/model/MODEL_CARD.md").read_text()


def test_too_little_to_measure_by_is_said_before_the_start(texts, tmp_path, capsys):
    (texts / "heldout-stories.txt").write_text("Too short to say anything.")
    assert build(texts, tmp_path / "a", steps=2) == 2
    assert "needs more than 1,024" in capsys.readouterr().err


def test_a_file_that_is_not_utf8_is_named(texts, tmp_path, capsys):
    (texts / "more.txt").write_bytes("Voilà.".encode("latin-1"))
    assert build(texts, tmp_path / "a", steps=2) == 2
    assert "more.txt is not UTF-8: byte 4" in capsys.readouterr().err


def test_other_texts_do_not_go_on_with_a_build(texts, tmp_path, capsys):
    build(texts, tmp_path / "a", steps=2)
    (texts / "stories.txt").write_text(STORIES[:9000])
    assert build(texts, tmp_path / "a", steps=2) == 2
    assert "other texts" in capsys.readouterr().err


def test_other_settings_do_not_go_on_with_a_build(texts, tmp_path, capsys):
    build(texts, tmp_path / "a", steps=2)
    assert build(texts, tmp_path / "a", steps=3) == 2
    assert "other settings" in capsys.readouterr().err
