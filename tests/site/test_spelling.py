"""A misspelt name is known for the one that was meant, and no other word is."""

import pytest

from finetune_site.common.spelling import edits_between, misspelt

KNOWN = ["n_epochs", "batch_size", "seed", "name", "suffix", "training_file"]


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("ab", "ba", 1),
        ("ca", "abc", 3),
    ],
)
def test_edits_are_counted(one, other, edits):
    assert edits_between(one, other) == edits_between(other, one) == edits


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nepochs", "n_epochs"),
        ("batchsize", "batch_size"),
        ("sead", "seed"),
        ("naem", "name"),
        ("bacth_szie", "batch_size"),
        ("train_file", ""),
        ("integrations", ""),
        ("user", ""),
        ("tags", ""),
        ("", ""),
        ("seed", ""),
    ],
)
def test_a_misspelt_name_is_found(name, meant):
    assert misspelt(name, KNOWN) == meant
