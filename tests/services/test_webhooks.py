"""Webhooks: what programs are told when a job ends."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.utils import timezone

from finetune_site.common.errors import UserError
from finetune_site.team.models import AuditEntry
from jobs.models import Delivery, Job, Webhook
from jobs.services.deliveries import deliver, deliver_due, lay_deliveries
from jobs.services.jobs import stop_job
from jobs.services.webhooks import add_webhook, try_webhook
from jobs.watching.webhooks import WebhookThread
from tests.support import factories


class Receiver:
    """A program that is told things. `status` is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.num_slow_headers = 0
        self.taken: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.taken.append((dict(self.headers.items()), body))
                self.send_response(receiver.status)
                for number in range(receiver.num_slow_headers):
                    self.send_header(f"x-{number}", "slow")
                    self.flush_headers()
                    time.sleep(0.2)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/told"

    def events(self) -> list[dict]:
        return [json.loads(body) for _, body in self.taken]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.02,))
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


@pytest.fixture
def added(admin, receiver):
    """Adds a webhook to the receiver. Returns it and its secret."""
    return add_webhook(member=admin, url=receiver.url, allow_private=True)


def end(status=Job.Status.SUCCEEDED, **fields):
    return factories.make_job(
        status=status, **{"finished_at": timezone.now(), **fields}
    )


def tell():
    """Does what the watcher's thread does."""
    lay_deliveries()
    deliver_due()


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_the_end_of_a_job_is_told(added, receiver, status):
    job = end(status)
    tell()
    (event,) = receiver.events()
    assert event["type"] == f"fine_tuning.job.{status}"
    assert (event["object"], event["data"]) == ("event", {"id": job.uid})


def test_a_job_that_a_member_ends_is_told_too(added, receiver, member):
    job = factories.make_job()
    stop_job(member=member, job=job)
    tell()
    assert receiver.events()[0]["data"] == {"id": job.uid}


def test_nothing_is_told_twice(added, receiver):
    end()
    tell()
    tell()
    assert len(receiver.taken) == 1


def test_what_ended_before_is_not_told(added, receiver):
    end(finished_at=timezone.now() - timedelta(minutes=1))
    end(Job.Status.RUNNING, finished_at=None)
    tell()
    assert not receiver.taken


def test_messages_are_signed(added, receiver):
    """The scheme asks for HMAC-SHA256 over `id.timestamp.body` under the secret."""
    end()
    tell()
    headers, body = receiver.taken[0]
    key = base64.b64decode(added[1].removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_what_was_not_taken_is_sent_again_with_the_same_id(added, receiver):
    receiver.status = 500
    end()
    tell()
    delivery = Delivery.objects.get()
    assert delivery.message == "It answered with status 500, not with 200."
    tell()
    assert len(receiver.taken) == 1, "it is not due yet"
    receiver.status = 200
    Delivery.objects.update(due_at=timezone.now())
    tell()
    first, second = (headers["webhook-id"] for headers, _ in receiver.taken)
    assert first == second
    assert Delivery.objects.get().delivered_at


def test_a_delivery_that_died_half_way_is_due_again(added, receiver, monkeypatch):
    def die(*args):
        raise SystemExit

    end()
    lay_deliveries()
    delivery = Delivery.objects.get()
    monkeypatch.setattr("jobs.services.deliveries.post", die)
    with pytest.raises(SystemExit):
        deliver(delivery.pk)
    delivery.refresh_from_db()
    assert timezone.now() < delivery.due_at < timezone.now() + timedelta(minutes=1)


def test_two_tasks_for_a_delivery_send_it_once(added, receiver):
    end()
    lay_deliveries()
    for _ in range(2):
        deliver(Delivery.objects.get().pk)
    assert len(receiver.taken) == 1


def test_nobody_sends_it_while_a_slow_receiver_takes_it(added, monkeypatch):
    """The first wait is shorter than an answer may take."""
    end()
    lay_deliveries()
    seconds = []

    def take_slowly(*args):
        seconds.append((Delivery.objects.get().due_at - timezone.now()).total_seconds())

    monkeypatch.setattr("jobs.services.deliveries.post", take_slowly)
    deliver(Delivery.objects.get().pk)
    assert seconds[0] > 25


def test_the_wait_for_the_next_try_begins_when_one_has_failed(added, receiver):
    receiver.status = 500
    end()
    tell()
    wait = Delivery.objects.get().due_at - timezone.now()
    assert timedelta(seconds=3) < wait <= timedelta(seconds=5)


def test_a_dead_receiver_holds_up_no_other(added, admin, receiver):
    """The other is told, however much the dead one has not been told yet."""
    add_webhook(member=admin, url="http://127.0.0.1:9/", allow_private=True)
    for _ in range(3):
        end()
    tell()
    assert len(receiver.taken) == 1
    assert Delivery.objects.filter(num_tries=1).count() == 2


def test_a_receiver_whose_headers_never_end_is_left(
    admin, added, receiver, monkeypatch
):
    monkeypatch.setattr("jobs.services.webhooks.PATIENCE", (1, 0.5))
    monkeypatch.setattr("finetune_site.common.outbound.GRACE_SECONDS", 0.1)
    receiver.num_slow_headers = 20
    with pytest.raises(UserError, match="No answer within"):
        try_webhook(member=admin, webhook=added[0])


def test_the_watcher_tells_webhooks_beside_its_loop(added, receiver, monkeypatch):
    told = threading.Event()
    monkeypatch.setattr("jobs.watching.webhooks.lay_deliveries", told.set)
    monkeypatch.setattr("jobs.watching.webhooks.deliver_due", lambda: False)
    thread = WebhookThread()
    thread.keep()
    assert told.wait(5)
    thread.stop()


def test_it_is_given_up_after_a_day(added, receiver):
    receiver.status = 404
    end()
    lay_deliveries()
    Delivery.objects.update(created_at=timezone.now() - timedelta(hours=25))
    deliver(Delivery.objects.get().pk)
    delivery = Delivery.objects.get()
    assert (delivery.due_at, delivery.delivered_at) == (None, None)


def test_a_redirect_is_not_followed(admin, added, receiver):
    receiver.status = 302
    with pytest.raises(UserError, match="status 302"):
        try_webhook(member=admin, webhook=added[0])


def test_trials_are_on_record(admin, added, receiver):
    try_webhook(member=admin, webhook=added[0])
    entry = AuditEntry.objects.get(action="webhook.test")
    assert (entry.member, entry.subject) == (admin, added[0].url)


def test_nobody_who_answers_is_said_in_words(admin):
    webhook, _ = add_webhook(
        member=admin, url="http://127.0.0.1:9/", allow_private=True
    )
    with pytest.raises(UserError, match="cannot be reached: connection refused"):
        try_webhook(member=admin, webhook=webhook)


def test_addresses_of_the_own_network_need_leave(admin):
    with pytest.raises(UserError) as caught:
        add_webhook(member=admin, url="http://127.0.0.1:9/")
    assert caught.value.field == "url"


def test_the_secret_is_sealed_and_stands_in_no_record(added):
    secret = added[1]
    assert secret not in Webhook.objects.get().sealed_secret
    assert secret not in str(list(AuditEntry.objects.values()))


ADDRESSES = [
    "/team/webhooks/add/",
    "/team/webhooks/1/test/",
    "/team/webhooks/1/remove/",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_only_admins_change_webhooks(client, member, address):
    client.force_login(member)
    assert client.post(address).status_code == 403


def test_only_admins_see_webhooks(client, member):
    client.force_login(member)
    assert client.get("/team/webhooks/").status_code == 403


@pytest.fixture
def page(client, admin):
    client.force_login(admin)
    return client


def test_the_secret_is_shown_once(page, receiver):
    form = {"url": receiver.url, "allow_private": "on"}
    assert "whsec_" in page.post("/team/webhooks/add/", form).content.decode()
    shown = page.get("/team/webhooks/").content.decode()
    assert receiver.url in shown
    assert "whsec_" not in shown


def test_a_wrong_address_is_said_beside_its_field(page):
    answer = page.post("/team/webhooks/add/", {"url": "ftp://example.org"})
    assert answer.status_code == 422
    assert 'id="id_url_error"' in answer.content.decode()


def test_a_test_event_says_what_came_of_it(page, added, receiver):
    address = f"/team/webhooks/{added[0].pk}/test/"
    assert "took the test event" in page.post(address, follow=True).content.decode()
    receiver.status = 500
    assert "status 500" in page.post(address, follow=True).content.decode()


def test_the_page_shows_what_became_of_messages(page, added, receiver):
    end()
    tell()
    assert "Arrived just now" in page.get("/team/webhooks/").content.decode()


def test_a_webhook_is_removed(page, added):
    page.post(f"/team/webhooks/{added[0].pk}/remove/")
    assert not Webhook.objects.exists()
