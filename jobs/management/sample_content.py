"""Makes the sample datasets and the sample job of `manage.py demo`."""

from pathlib import Path

from django.conf import settings

from datasets.models import Dataset, DatasetVersion
from datasets.services import import_dataset_file, import_version
from finetune_site.team.models import Member
from jobs.models import Job
from jobs.new_job.creation import NewJob, create_job
from jobs.trainer.contract.settings import JobSettings

FOLDER = Path(settings.BASE_DIR) / "datasets" / "sample_data"
# The file of each dataset. Validation data has no example of the training data.
SAMPLES = {
    "Jokes": "jokes.jsonl",
    "Jokes, validation": "jokes-validation.jsonl",
    "Capitals": "capitals.jsonl",
    "Capitals, validation": "capitals-validation.jsonl",
    "Intents": "intents.jsonl",
    "Intents, validation": "intents-validation.jsonl",
    "Short stories": "stories.txt",
    "Short stories, validation": "stories-validation.txt",
}
JOB_NAME = "Sample: capitals"
# This takes about a minute on a laptop, so that there is something to watch.
EPOCHS = 40


def create_sample_content(member: Member) -> None:
    """Makes what is not there yet. What is there stays as it is."""
    for name, file in SAMPLES.items():
        if not Dataset.objects.filter(name__iexact=name).exists():
            version = import_dataset_file(
                member=member, name=name, upload=FOLDER / file, note="Sample data"
            )
            Dataset.objects.filter(versions=version).update(is_sample=True)
            import_version(version_id=version.pk)
    if not Job.objects.filter(name=JOB_NAME).exists():
        create_sample_job(member)


def create_sample_job(member: Member) -> None:
    """Makes the sample job, unless its dataset is missing."""
    training, validation = (
        DatasetVersion.objects.filter(
            dataset__name__iexact=name, status=DatasetVersion.Status.READY
        ).first()
        for name in ("Capitals", "Capitals, validation")
    )
    if training is None:
        return
    new = NewJob(
        name=JOB_NAME,
        dataset_version=training,
        validation_version=validation,
        base_model="tiny",
        settings=JobSettings(epochs=EPOCHS),
    )
    job = create_job(new, member=member)
    Job.objects.filter(pk=job.pk).update(is_sample=True)
