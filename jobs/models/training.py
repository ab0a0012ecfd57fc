"""Jobs, what their trainers reported, and the snapshots they left."""

from pathlib import Path

from django.conf import settings as site
from django.db import models

from datasets.models import DatasetVersion
from finetune_site.common.ids import job_uid
from jobs.models.setting_columns import CHOICE_CHARACTERS, add_setting_columns
from jobs.trainer.contract.settings import SETTINGS, JobSettings, settings_of


class Job(models.Model):
    """A person's request to train. Its run folder holds what the trainer did."""

    class Status(models.TextChoices):
        VALIDATING = "validating", "Validating"
        QUEUED = "queued", "Queued"
        # Inside only, shown as queued: claimed, its trainer being launched.
        STARTING = "starting", "Queued"
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Stopped"

    class Want(models.TextChoices):
        RUN = "run", "Run"
        PAUSE = "pause", "Pause"
        STOP = "stop", "Stop"

    class WhenEngineAway(models.TextChoices):
        WAIT = "wait", "Wait for it"
        FAIL = "fail", "Fail"

    FINAL = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)
    # A trainer may be alive, so the watcher reads its run folder.
    LIVE = (Status.STARTING, Status.RUNNING)

    uid = models.CharField(max_length=40, unique=True, default=job_uid)
    name = models.CharField(max_length=120)
    created_by = models.ForeignKey(
        site.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(auto_now_add=True)
    # Whether it came with the site, to be looked at.
    is_sample = models.BooleanField(default=False)
    # Given by clients of the API: part of the fine-tuned model's name, and a few notes
    # of theirs.
    suffix = models.CharField(max_length=64, blank=True)
    metadata = models.JSONField(default=dict, blank=True)

    # What to train.
    dataset_version = models.ForeignKey(
        DatasetVersion, on_delete=models.PROTECT, related_name="jobs"
    )
    validation_version = models.ForeignKey(
        DatasetVersion,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="validating_jobs",
    )
    base_model = models.CharField(max_length=120)
    parent_snapshot = models.ForeignKey(
        "Snapshot",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="child_jobs",
    )
    engine = models.CharField(max_length=40, default="local")
    when_engine_away = models.CharField(
        max_length=4, choices=WhenEngineAway, default=WhenEngineAway.WAIT
    )
    # The job's id on the other side, once a remote engine has taken it.
    far_uid = models.CharField(max_length=80, blank=True)

    # How: a column for every setting of `SETTINGS`, added below. `auto` names those
    # that the site chooses once it knows the data.
    auto = models.JSONField(default=list, blank=True)

    # Watched prompts; empty: the site takes some from the data.
    prompts = models.JSONField(default=list, blank=True)

    # Who stopped it for good, if somebody of the team did.
    stopped_by = models.ForeignKey(
        site.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="stopped_jobs",
    )
    # What people want of it now; the watcher carries it into control.json.
    want = models.CharField(max_length=5, choices=Want, default=Want.RUN)
    snapshot_requests = models.PositiveIntegerField(default=0)

    # Where it stands. Truth about the training is the run folder; these are its echo.
    status = models.CharField(
        max_length=10, choices=Status, default=Status.VALIDATING, db_index=True
    )
    status_message = models.TextField(blank=True)
    claimed_at = models.DateTimeField(null=True, blank=True)
    # How far the count of its tokens is, while it is validated.
    examples_counted = models.PositiveIntegerField(default=0)
    examples_to_count = models.PositiveIntegerField(default=0)
    counting_seconds_left = models.FloatField(null=True, blank=True)
    queued_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    # The plan, as `jobs.trainer.rows.plan` makes it, once validated.
    plan = models.JSONField(default=dict, blank=True)
    total_steps = models.PositiveIntegerField(default=0)

    # How far events.jsonl has been read. Deaths since the last new step: see recover.
    events_offset = models.BigIntegerField(default=0)
    last_seq = models.PositiveIntegerField(default=0)
    deaths = models.PositiveIntegerField(default=0)
    deaths_at_step = models.IntegerField(default=0)

    # Echo of the newest events, so that lists need no look at the events.
    step = models.PositiveIntegerField(default=0)
    epoch = models.FloatField(default=0)
    train_loss = models.FloatField(null=True, blank=True)
    learned_loss = models.FloatField(null=True, blank=True)
    first_learned_loss = models.FloatField(null=True, blank=True)
    validation_loss = models.FloatField(null=True, blank=True)
    best_validation_loss = models.FloatField(null=True, blank=True)
    tokens_per_second = models.FloatField(null=True, blank=True)
    seconds_per_step = models.FloatField(null=True, blank=True)
    memory_bytes = models.BigIntegerField(null=True, blank=True)
    # Of the file of an ended job's losses, from when it is first asked for.
    result_bytes = models.BigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    @property
    def told_events(self) -> "models.QuerySet[Event]":
        """The events that this row knows of.

        Newer ones may have come since the row was read. All that is shown together
        leaves them out, or a curve would be ahead of the number beside it.
        """
        return Event.objects.filter(job=self, seq__lte=self.last_seq)

    @property
    def settings(self) -> JobSettings:
        """How the job trains, as it was asked for or as the site chose."""
        return settings_of(self)

    @property
    def folder(self) -> Path:
        return Path(site.DATA_DIR) / "runs" / self.uid

    @property
    def is_final(self) -> bool:
        return self.status in self.FINAL

    @property
    def is_live(self) -> bool:
        return self.status in self.LIVE

    @property
    def counted_share(self) -> float:
        """The share of examples whose tokens are counted so far, from 0 to 1."""
        return self.examples_counted / max(1, self.examples_to_count)

    @property
    def ended_early(self) -> bool:
        """Whether it ended before its last step: the validation loss fell no more."""
        return self.status == self.Status.SUCCEEDED and self.step < self.total_steps

    @property
    def shown_status(self) -> str:
        """The status as people see it: `starting` is shown as queued."""
        if self.status == self.Status.STARTING:
            return self.Status.QUEUED.value
        return self.status


add_setting_columns(Job)


class Event(models.Model):
    """A line of a run folder's events.jsonl."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveIntegerField()
    time = models.DateTimeField()
    type = models.CharField(max_length=20)
    step = models.PositiveIntegerField(default=0)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["seq"]
        constraints = [
            models.UniqueConstraint(fields=["job", "seq"], name="event_seq_unique")
        ]
        indexes = [models.Index(fields=["job", "type", "seq"])]

    def __str__(self) -> str:
        return f"{self.job_id}:{self.seq} {self.type}"


class Snapshot(models.Model):
    """The weights at a step, kept for good, servable and trainable further."""

    # `tiny:2026-11-22.snap-09HczpZn5OzIX70imZYslzMI`, made by the trainer.
    uid = models.CharField(max_length=160, unique=True)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="snapshots")
    step = models.PositiveIntegerField()
    base_model = models.CharField(max_length=120)
    method = models.CharField(
        max_length=CHOICE_CHARACTERS, choices=SETTINGS["method"].choices
    )
    # Below the run folder, for example `snapshots/120`.
    relative_path = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64)
    # Of the weights that its job started from. "" if they were not noted.
    base_sha256 = models.CharField(max_length=64, blank=True, default="")
    num_bytes = models.BigIntegerField(default=0)
    learned_loss = models.FloatField(null=True, blank=True)
    validation_loss = models.FloatField(null=True, blank=True)
    best = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["job", "step"], name="snapshot_step_unique")
        ]

    def __str__(self) -> str:
        return self.uid

    @property
    def folder(self) -> Path:
        return self.job.folder / self.relative_path

    @property
    def is_here(self) -> bool:
        """Whether the weights lie on this machine, not on an engine elsewhere."""
        return not self.job.far_uid
