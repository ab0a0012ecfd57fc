"""What can be written behind `openai-ft`, and what is said when it is wrong."""

import pytest

from jobs.cli import arguments
from jobs.cli.main import run


def parse(*argv):
    return arguments.train_parser().parse(list(argv))


def complaint(capsys, *argv):
    with pytest.raises(SystemExit) as ended:
        run(list(argv))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_the_guides_flags_in_their_long_forms():
    args = parse(
        *("--train", "a", "--val", "b", "--engine", "local", "--model", "Ada"),
        *("--num-epochs", "2", "--completions-every", "5", "--num-completions", "3"),
        *("--snapshots-every", "10", "--max-tokens", "128", "--batch-size", "4"),
        *("--s", "0.5", "--v", "2"),
    )
    assert (args.train, args.val, args.engine, args.model) == ("a", "b", "local", "Ada")
    assert (args.epochs, args.completions_every, args.num_completions) == (2, 5, 3)
    assert (args.snapshots_every, args.max_tokens, args.batch_size) == (10, 128, 4)
    assert (args.learning_rate_scale, args.verbosity) == (0.5, 2)


def test_the_guides_flags_in_their_short_forms():
    args = parse("-t", "a", "-e", "local", "-m", "Ada", "-s", "2", "-v", "0")
    assert (args.train, args.engine, args.model) == ("a", "local", "Ada")
    assert (args.learning_rate_scale, args.verbosity) == (2, 0)


@pytest.mark.parametrize(
    ("flags", "level"), [([], 1), (["-v"], 2), (["-vv"], 3), (["-vvv"], 3)]
)
def test_verbosity_may_be_counted(flags, level):
    assert parse("-t", "a", *flags).verbosity == level


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-t", "a", "--epochs", "3"], "is it --num-epochs?"),
        (["-t", "a", "--num-epochs", "few"], "'few' is not a whole number of 1 or mor"),
        (["-t", "a", "--batch-size", "0"], "'0' is not a whole number of 1 or more"),
        (["-t", "a", "-s", "nan"], "'nan' is not a number such as 0.5"),
        (["-t", "a", "-v", "9"], "'9' is not a level from 0 to 3"),
        (["-t", "a", "--lora", "--full"], "not allowed with"),
        (["-m", "ada"], "say what to train on: -t FILE"),
        (["-t", "a", "--follow", "b"], "give one of them"),
        (["-t", "a", "--json"], "--json goes with --plan"),
        (["complete", "tiny"], "required: PROMPT"),
        (["list", "--limit", "-1"], "not a whole number of 1 or more"),
    ],
)
def test_what_is_wrong_is_said_with_the_flag(capsys, argv, words):
    assert words in complaint(capsys, *argv)


def test_nothing_at_all_shows_the_help(capsys):
    assert run([]) == 2
    assert "openai-ft -t jokes.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], ["prepare"], ["list"], ["complete"]])
def test_help_fits_a_narrow_terminal(capsys, command):
    with pytest.raises(SystemExit) as ended:
        run([*command, "--help"])
    assert ended.value.code == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= arguments.WIDTH


def test_examples_of_the_help_need_tiny_only_or_say_so():
    other = [line for line in arguments.ABOUT.splitlines() if " -m " in line]
    assert other
    assert all("once an admin has added it" in line for line in other)
