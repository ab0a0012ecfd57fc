"""Tells webhooks of jobs that have ended: at least once, whatever dies meanwhile.

Nothing is sent where a job ends, for jobs end in many places. A sweep compares the jobs
that have ended with what each webhook was told.
"""

from datetime import datetime, timedelta

from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from finetune_site.common.ids import random_id
from jobs.models import Delivery, Job, Webhook
from jobs.services.webhook_message import event_body
from jobs.services.webhooks import EVENT_PREFIX, NotTakenError, post

# Seconds until the next try; the last one over and over.
WAITS = (5, 30, 120, 600, 1800, 3600)
# While it is sent: longer than that may take, or the same event would go out twice.
CLAIMED_SECONDS = 30
GIVEN_UP_AFTER = timedelta(days=1)
# A site that was down for longer tells nobody about what ended before.
LAID_WITHIN = timedelta(days=7)


def lay_deliveries() -> None:
    """A delivery for each webhook and each job that has ended since it was added."""
    recently = timezone.now() - LAID_WITHIN
    for webhook in Webhook.objects.all():
        told = Delivery.objects.filter(webhook=webhook, job=OuterRef("pk"))
        untold = Job.objects.filter(
            ~Exists(told),
            status__in=Job.FINAL,
            finished_at__gte=max(webhook.created_at, recently),
        )
        Delivery.objects.bulk_create(
            [new_delivery(webhook, job) for job in untold.only("status")],
            ignore_conflicts=True,
        )


def new_delivery(webhook: Webhook, job: Job) -> Delivery:
    return Delivery(
        uid=random_id(EVENT_PREFIX),
        webhook=webhook,
        job=job,
        type=f"fine_tuning.job.{job.status}",
        due_at=timezone.now(),
    )


def deliver_due() -> bool:
    """One after another, the first of each webhook only: so a receiver that does not
    answer holds up the others once a round. False when nothing was due.
    """
    due = Delivery.objects.filter(due_at__lte=timezone.now()).order_by("due_at")
    first: dict[int, int] = {}
    for webhook_id, pk in due.values_list("webhook_id", "pk"):
        first.setdefault(webhook_id, pk)
    for pk in first.values():
        deliver(pk)
    return bool(first)


def deliver(delivery_id: int) -> None:
    """Send it, if it is due. One that dies meanwhile is due again by and by."""
    delivery = claim(delivery_id)
    if delivery is None:
        return
    try:
        post(delivery.webhook, delivery.uid, body_of(delivery))
    except NotTakenError as error:
        note_failure(delivery, error.message)
    else:
        arrived = {"due_at": None, "delivered_at": timezone.now(), "message": ""}
        Delivery.objects.filter(pk=delivery.pk).update(**arrived)


def claim(delivery_id: int) -> Delivery | None:
    """None: it is not due, or somebody else sends it."""
    now = timezone.now()
    rows = Delivery.objects.filter(pk=delivery_id, due_at__lte=now)
    delivery = rows.select_related("webhook", "job").first()
    if delivery is None:
        return None
    mine = rows.filter(due_at=delivery.due_at).update(
        due_at=now + timedelta(seconds=CLAIMED_SECONDS), num_tries=F("num_tries") + 1
    )
    return delivery if mine else None


def body_of(delivery: Delivery) -> bytes:
    """The same bytes at each try."""
    job = delivery.job
    return event_body(
        uid=delivery.uid,
        type_=delivery.type,
        at=job.finished_at or delivery.created_at,
        subject=job.uid,
    )


def note_failure(delivery: Delivery, message: str) -> None:
    now = timezone.now()
    given_up = now - delivery.created_at > GIVEN_UP_AFTER
    Delivery.objects.filter(pk=delivery.pk).update(
        message=message, due_at=None if given_up else next_try(delivery, now)
    )


def next_try(delivery: Delivery, now: datetime) -> datetime:
    wait = WAITS[min(delivery.num_tries, len(WAITS) - 1)]
    return now + timedelta(seconds=wait)
