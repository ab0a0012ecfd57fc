"""Says what an import made of a file, in sentences for people and for clients."""

from datasets.models import DatasetVersion
from finetune_site.common.wording import counted
from jobs.trainer.text.line_forms import LineForm

FORMS = {
    LineForm.PROMPT: (
        "a prompt with a completion",
        "prompts with completions",
        "A prompt is read (loss weight 0), its completion learned (1).",
    ),
    LineForm.CHAT: (
        "a chat, written out as text",
        "chats, written out as text",
        "The assistant's answers are learned (loss weight 1, or what a message gives), "
        "all else is read (0).",
    ),
}


def import_notes(version: DatasetVersion) -> list[str]:
    """Returns what is worth knowing of a file that was read, in sentences.

    They tell of lines in OpenAI's forms, and of examples that stand there twice.
    """
    notes = [
        _note(version.forms[form], *words)
        for form, words in FORMS.items()
        if version.forms.get(form)
    ]
    return notes + _repeats(version.num_repeated)


def _repeats(number: int) -> list[str]:
    if not number:
        return []
    are = "is a repeat" if number == 1 else "are repeats"
    return [
        f"{counted(number, 'example')} {are}: the same texts and loss weights stand "
        "further up. What stands there twice is learned twice."
    ]


def _note(number: int, one: str, many: str, how: str) -> str:
    lines = counted(number, "line")
    return f"{lines} is {one}. {how}" if number == 1 else f"{lines} are {many}. {how}"


def what_became_of(version: DatasetVersion) -> str:
    """Returns why the import failed, or what was read and which lines were left out."""
    if version.status == DatasetVersion.Status.FAILED:
        return version.status_message
    return "\n".join([*import_notes(version), *_left_out(version)])


def _left_out(version: DatasetVersion) -> list[str]:
    if not version.num_bad:
        return []
    were = "was" if version.num_bad == 1 else "were"
    lines = [f"Line {line['line']}: {line['message']}." for line in version.problems]
    return [f"{counted(version.num_bad, 'line')} {were} left out.", *lines]
