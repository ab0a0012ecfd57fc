"""Gives prompts another loss weight, as the API's older clients may ask for."""

from datasets.drafts.draft import Change, Draft
from datasets.models import DatasetVersion
from datasets.services.drafts import add_child, check_weight
from datasets.stored.import_request import ImportRequest
from finetune_site.common.errors import UserError
from finetune_site.team.models import Member

Status = DatasetVersion.Status
FIELD = "prompt_loss_weight"


def reweighted(
    *, member: Member | None, version: DatasetVersion, prompt_weight: float
) -> DatasetVersion:
    """Returns the version whose prompts have that loss weight.

    This is the version itself, one that was made from it before, or a new one, which is
    `importing` at first. `version` may be importing too; the new one then waits for it.
    Raises UserError if its examples are not all a prompt with a completion.
    """
    check_weight(prompt_weight, field=FIELD)
    if version.status == Status.READY:
        check_prompts(version)
        if {part["weight"] for part in _prompts(version)} == {prompt_weight}:
            return version
    request = ImportRequest(kind="weights", changes=_rule(prompt_weight))
    made = _made_before(version, request)
    if made:
        return made
    child = DatasetVersion(note=f"Prompts have loss weight {prompt_weight:g}")
    return add_child(member, version, child, request, "dataset.reweight")


def check_prompts(version: DatasetVersion) -> None:
    """Raises UserError if not every example is a prompt with a completion."""
    places = {(part["position"], part["last"]) for part in version.shares}
    if places != {(0, False), (1, True)}:
        raise UserError(
            f"A loss weight for prompts needs examples that are a prompt and a "
            f"completion each, and {version} has others. Leave it out: then the loss "
            "weights of the file count.",
            field=FIELD,
        )


def _prompts(version: DatasetVersion) -> list[dict[str, float]]:
    return [part for part in version.shares if part["position"] == 0]


def _rule(weight: float) -> list[dict[str, object]]:
    return Draft([Change(0, None, 0, weight)]).as_json()


def _made_before(
    version: DatasetVersion, request: ImportRequest
) -> DatasetVersion | None:
    made = DatasetVersion.objects.filter(parent=version, file_deleted=False)
    for child in made.exclude(status=Status.FAILED).order_by("id"):
        if ImportRequest.read(child.folder) == request:
            return child
    return None
