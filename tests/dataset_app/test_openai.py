"""OpenAI's files as datasets, and other loss weights for their prompts."""

import orjson
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from datasets import services
from datasets.models import DatasetVersion
from finetune_site.common.errors import UserError
from jobs.trainer.text.examples import iter_examples
from tests.support import factories

PROMPT = b'{"prompt": "2 + 2 =", "completion": " 4"}\n'
OURS = b'{"data": "2 + 2 = 4"}\n'
CHAT = (
    orjson.dumps(
        {
            "messages": [
                {"role": "user", "content": "2 + 2?"},
                {"role": "assistant", "content": "4"},
            ]
        }
    )
    + b"\n"
)


def upload(member, content):
    return services.import_dataset_file(
        member=member,
        name=f"sums {DatasetVersion.objects.count()}",
        upload=SimpleUploadedFile("sums.jsonl", content),
    )


def imported(version):
    services.import_version(version_id=version.pk)
    version.refresh_from_db()
    return version


def examples_in(version):
    return list(iter_examples(version.examples_path))


@pytest.mark.parametrize(
    ("content", "forms"),
    [
        (OURS, {}),
        (PROMPT * 3, {"prompt": 3}),
        (PROMPT + CHAT + OURS, {"prompt": 1, "chat": 1}),
    ],
)
def test_the_forms_of_lines_are_counted(member, content, forms):
    version = imported(upload(member, content))
    assert (version.forms, version.from_chats) == (forms, "chat" in forms)


def test_prompts_are_read_alike_fast_and_slowly(member):
    fast = imported(upload(member, PROMPT * 2))
    slow = imported(upload(member, PROMPT * 2 + OURS))
    assert examples_in(fast) == examples_in(slow)[:2]
    assert examples_in(fast)[0] == [("2 + 2 =", 0.0), (" 4", 1.0)]


@pytest.mark.parametrize("completion", ['""', "1", "null", "[]"])
def test_a_wrong_prompt_among_good_ones_is_named(member, completion):
    wrong = b'{"prompt": "a", "completion": %s}\n' % completion.encode()
    version = imported(upload(member, PROMPT + wrong + PROMPT))
    assert (version.num_examples, version.problems[0]["line"]) == (2, 2)
    assert "completion" in version.problems[0]["message"]


def test_a_version_made_from_chats_is_from_chats(member):
    version = imported(upload(member, CHAT))
    services.change_weight(member=member, version=version, segment=1, weight=0.5)
    child = imported(services.save_draft(member=member, version=version))
    assert child.from_chats


@pytest.mark.parametrize("name", ["dataset", "dataset-report"])
def test_the_page_says_how_lines_were_read(client, member, name):
    version = imported(upload(member, PROMPT * 2 + CHAT))
    client.force_login(member)
    page = client.get(reverse(name, args=[version.dataset_id]))
    assert "2 lines are prompts with completions." in page.content.decode()
    assert "1 line is a chat, written out as text." in page.content.decode()


@pytest.fixture
def reweight(member):
    def reweight(version, weight=0.1):
        return services.reweighted(member=member, version=version, prompt_weight=weight)

    return reweight


def test_prompts_get_the_weight_in_a_version_of_their_own(member, reweight):
    version = imported(upload(member, PROMPT))
    child = imported(reweight(version))
    assert examples_in(child) == [[("2 + 2 =", 0.1), (" 4", 1.0)]]
    assert child.parent == version
    assert child.note == "Prompts have loss weight 0.1"


def test_the_same_weight_again_is_the_same_version(member, reweight):
    version = imported(upload(member, PROMPT))
    children = [reweight(version), reweight(version), reweight(version, 0.2)]
    assert children[0] == children[1] != children[2]


def test_a_version_that_has_the_weight_is_taken_as_it_is(member, reweight):
    version = imported(upload(member, PROMPT))
    assert reweight(version, 0) == version


def test_somebodys_draft_stays_where_it_is(member, reweight):
    version = imported(upload(member, PROMPT))
    services.change_weight(member=member, version=version, segment=1, weight=0.5)
    child = imported(reweight(version))
    assert version.draft_changes.count() == 1
    assert examples_in(child)[0][1] == (" 4", 1.0)


@pytest.mark.parametrize("content", [OURS, CHAT + OURS])
def test_only_prompts_with_completions_take_a_weight(member, reweight, content):
    version = imported(upload(member, content))
    with pytest.raises(UserError, match="a prompt and a completion each") as caught:
        reweight(version)
    assert caught.value.field == "prompt_loss_weight"


@pytest.mark.parametrize("weight", [-1, 1e-9, 1000, float("nan")])
def test_a_weight_is_a_weight(reweight, weight):
    with pytest.raises(UserError) as caught:
        reweight(factories.make_dataset(), weight)
    assert caught.value.field == "prompt_loss_weight"


def test_it_waits_for_the_import_it_is_made_from(member, reweight):
    version = upload(member, PROMPT)
    child = imported(reweight(version))
    assert (child.status, child.claimed_at) == ("importing", None)
    imported(version)
    assert examples_in(imported(child))[0][0] == ("2 + 2 =", 0.1)


def test_it_is_enqueued_when_that_import_ends(
    member, reweight, monkeypatch, django_capture_on_commit_callbacks
):
    version = upload(member, PROMPT)
    child = reweight(version)
    enqueued = []
    monkeypatch.setattr(services.imports, "enqueue_import", enqueued.append)
    imported(version)
    assert enqueued == [child]


@pytest.mark.parametrize("content", [b"{}\n", OURS])
def test_it_fails_in_words_with_the_import_it_is_made_from(member, reweight, content):
    version = upload(member, content)
    child = reweight(version)
    imported(version)
    assert imported(child).status == "failed"
    assert child.status_message
