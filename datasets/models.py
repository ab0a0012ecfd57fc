"""Datasets, their immutable versions, and the draft laid over a version."""

from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower

from finetune_site.common.ids import version_uid


class Dataset(models.Model):
    """A name for versions of the same data. No two names differ in case alone."""

    name = models.CharField(max_length=120)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(auto_now_add=True)
    # Whether it came with the site, to be looked at.
    is_sample = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("name"), name="dataset_name_unique")
        ]

    def __str__(self) -> str:
        return self.name


class DatasetVersion(models.Model):
    """An immutable list of examples: `examples.jsonl` and `examples.idx` in its folder.

    The status `importing` covers both ways in which a version is made: from an upload
    (`upload.bin` in its folder) and from a draft (`parent` and the parent's draft
    changes). Before it a table waits (`columns`) until somebody says what its columns
    are.
    """

    class Status(models.TextChoices):
        COLUMNS = "columns", "Choose columns"
        IMPORTING = "importing", "Importing"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"

    class Joiner(models.TextChoices):
        NOTHING = "", "nothing"
        SPACE = " ", "a space"
        NEW_LINE = "\n", "a new line"

    uid = models.CharField(max_length=40, unique=True, default=version_uid)
    dataset = models.ForeignKey(
        Dataset, on_delete=models.CASCADE, related_name="versions"
    )
    number = models.PositiveIntegerField()
    parent = models.ForeignKey("self", null=True, on_delete=models.SET_NULL)
    status = models.CharField(
        max_length=10, choices=Status, default=Status.IMPORTING, db_index=True
    )
    status_message = models.TextField(blank=True)
    note = models.CharField(max_length=200, blank=True)
    source_name = models.CharField(max_length=255, blank=True)
    joiner = models.CharField(max_length=1, choices=Joiner, blank=True, default="")
    # Whether chats were written out as text. Questions to a model that was trained on
    # them have to be written out the same way.
    from_chats = models.BooleanField(default=False)
    # Whether a client deleted the file while jobs still need it.
    file_deleted = models.BooleanField(default=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(auto_now_add=True)

    # How far the import is. Who works on it renews `claimed_at`; see services.claims.
    claimed_at = models.DateTimeField(null=True, blank=True)
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(default=0)

    # These are known once the version is ready.
    sha256 = models.CharField(max_length=64, blank=True)
    num_bytes = models.BigIntegerField(default=0)
    num_examples = models.PositiveIntegerField(default=0)
    # How many examples came from lines in each of OpenAI's forms, for example
    # {"prompt": 3, "chat": 12}.
    forms = models.JSONField(default=dict, blank=True)
    num_bad = models.PositiveIntegerField(default=0)
    # [{"line": 3, "message": "...", "text": "start of the line"}], the first 100.
    problems = models.JSONField(default=list, blank=True)
    # How many examples have segments that meet without white space ("IndiaNew").
    num_unspaced = models.PositiveIntegerField(default=0)
    # How many examples are equal to one further up.
    num_repeated = models.PositiveIntegerField(default=0)
    # [{"position": 1, "weight": 0.9, "segments": 197, "characters": 1600}, ...]:
    # what the page needs to say how much is learned from which part.
    shares = models.JSONField(default=list, blank=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["dataset", "number"], name="version_number_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.dataset}, version {self.number}"

    @property
    def folder(self) -> Path:
        """The folder of the version's files, below the data folder."""
        return Path(settings.DATA_DIR) / "datasets" / self.uid

    @property
    def teaches_nothing(self) -> bool:
        """Whether every text in it is known to have the loss weight 0."""
        return bool(self.shares) and not any(share["weight"] for share in self.shares)

    @property
    def upload_path(self) -> Path:
        """The uploaded file that it is imported from, until the import is over."""
        return self.folder / "upload.bin"

    @property
    def examples_path(self) -> Path:
        """The file of examples, one a line, in the long form."""
        return self.folder / "examples.jsonl"


class ColumnChoice(models.Model):
    """How the columns of tables with this header were used the last time."""

    # The sha256 of the names, in hexadecimal.
    header = models.CharField(max_length=64, unique=True)
    mapping = models.JSONField()
    chosen_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL
    )
    chosen_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"columns chosen {self.chosen_at}"


class DraftChange(models.Model):
    """One change of loss weights laid over a version. The draft is the list of them.

    With `example` it changes one segment of one example. Without, it changes that
    segment of every example (a rule). `segment` counts from 0, and -1 is the last one.
    A later change wins, so an undo takes the last change away.
    """

    version = models.ForeignKey(
        DatasetVersion, on_delete=models.CASCADE, related_name="draft_changes"
    )
    example = models.PositiveIntegerField(null=True, blank=True)
    segment = models.IntegerField()
    weight = models.FloatField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["version", "example"])]

    def __str__(self) -> str:
        return f"segment {self.segment} gets {self.weight}"
