"""Says how far a member is on the way to a first snapshot, by own work alone."""

from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse

from datasets.drafts.draft import Draft
from datasets.models import DatasetVersion
from datasets.pages.effect import effect_of
from datasets.reading.tally import Part
from datasets.validation_names import first_for_training
from finetune_site.common import wording
from finetune_site.team.models import Member
from jobs.models import Job, Snapshot

# Who has come this far needs no first steps any more.
ENOUGH_SUCCEEDED = 3


@dataclass(frozen=True)
class FirstStep:
    title: str
    text: str
    done: bool
    url: str
    label: str


def read_first_steps(member: Member, *, has_tried: bool) -> list[FirstStep]:
    """Returns the four steps, or none once the member has done them often enough.

    `has_tried` says whether the member has asked a snapshot. What came with the site,
    and what failed, is nobody's work.
    """
    jobs = Job.objects.filter(created_by=member, is_sample=False)
    if jobs.filter(status=Job.Status.SUCCEEDED).count() >= ENOUGH_SUCCEEDED:
        return []
    version = _newest_version(member)
    job = jobs.exclude(status=Job.Status.FAILED).order_by("-pk").first()
    snapshots = Snapshot.objects.filter(job__in=jobs)
    snapshot = snapshots.order_by("-created_at", "-pk").first()
    return [
        _add_examples(version),
        _say_what_counts(version, job),
        _start_a_job(version, job),
        _try_it(snapshot, has_tried),
    ]


def _newest_version(member: Member) -> DatasetVersion | None:
    """Returns a version to train on rather than one to validate with."""
    ready = DatasetVersion.objects.filter(
        status=DatasetVersion.Status.READY, created_by=member, dataset__is_sample=False
    )
    return first_for_training(ready.select_related("dataset").order_by("-pk"))


def _add_examples(version: DatasetVersion | None) -> FirstStep:
    text = "Upload a text file or a .jsonl file"
    if version:
        examples = wording.counted(version.num_examples, "example")
        text = f"{version.dataset}: {examples}"
    url = reverse("dataset-new")
    return FirstStep("Add examples", text, bool(version), url, "Upload a dataset")


def _say_what_counts(version: DatasetVersion | None, job: Job | None) -> FirstStep:
    """Returns the step that is done when some text counts less, or there is any job."""
    weights = {share["weight"] for share in version.shares} if version else set()
    done = bool(job) or bool(weights - {1})
    url = reverse("dataset", args=[version.dataset_id]) if version else ""
    text = "Give each piece of text its loss weight"
    if version and version.shares and done:
        text = _shares_in_words(version)
    return FirstStep("Say what counts", text, done, url, "Look at the weights")


def _shares_in_words(version: DatasetVersion) -> str:
    parts = [Part(**share) for share in version.shares]
    effect = effect_of(parts, Draft([]), lambda numbers: iter([]))
    if not effect or not effect.shares:
        return "Nothing is learned: every loss weight is 0"
    if effect.only:
        return f"Learns only {effect.only}" if effect.read else "Learns all of the text"
    names = (
        f"{share.percent}{wording.NO_BREAK}% from {share.name}"
        for share in effect.named[:3]
    )
    return "Learns " + ", ".join(names)


def _start_a_job(version: DatasetVersion | None, job: Job | None) -> FirstStep:
    text = "A short form; the defaults suit your data"
    if job:
        text = f"{job}: {Job.Status(job.shown_status).label.lower()}"
    query = {"dataset": version.dataset_id} if version else {}
    url = f"{reverse('job-new')}?{urlencode(query)}" if version else ""
    return FirstStep("Start a job", text, bool(job), url, "New job")


def _try_it(snapshot: Snapshot | None, has_tried: bool) -> FirstStep:
    if not snapshot:
        text = "Every snapshot answers in the playground"
        return FirstStep("Try it", text, False, "", "")
    if has_tried:
        return FirstStep("Try it", "You have asked a snapshot", True, "", "")
    url = f"{reverse('playground')}?{urlencode({'snapshot': snapshot.uid})}"
    text = f"The snapshot of step {wording.count(snapshot.step)} is ready"
    return FirstStep("Try it", text, False, url, "Open the playground")
