"""Who may ask for what: every address, every method, every role.

The addresses are those that the site itself knows, so a new one fails here until it
has its line.
"""

import json
import re
from collections.abc import Iterator

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from finetune_site.common.sealing import seal
from finetune_site.team.models import ApiKey, Member
from finetune_site.team.services import create_api_key
from jobs.api.root import api
from jobs.models import Webhook
from tests.support import factories

pytestmark = pytest.mark.django_db

ROLES = ["signed out", "viewer", "member", "other member", "admin"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
READ, SEND, BOTH = {"GET"}, {"POST"}, {"GET", "POST"}
ANYBODY = set(ROLES)
TEAM = ANYBODY - {"signed out"}
WORKERS = TEAM - {"viewer"}
ADMINS = {"admin"}
OWNER = {"member"}

# By its name: what an address takes, and from whom.
PAGES = {
    "sign-in": (BOTH, ANYBODY),
    "sign-in-link": (BOTH, ANYBODY),
    "sign-out": (SEND, ANYBODY),
    "healthz": (READ, ANYBODY),
    "home": (READ, TEAM),
    "home-steps-hide": (SEND, TEAM),
    "help": (READ, TEAM),
    "help-moving": (READ, TEAM),
    "api-docs": (READ, TEAM),
    "team": (READ, TEAM),
    "team-member-add": (SEND, ADMINS),
    "team-member-role": (SEND, ADMINS),
    "team-member-active": (SEND, ADMINS),
    "team-member-link": (SEND, ADMINS),
    "team-password": (SEND, TEAM),
    "team-key-add": (SEND, TEAM),
    "team-key-revoke": (SEND, OWNER),
    "team-audit": (READ, ADMINS),
    "team-webhooks": (READ, ADMINS),
    "team-webhook-add": (SEND, ADMINS),
    "team-webhook-test": (SEND, ADMINS),
    "team-webhook-remove": (SEND, ADMINS),
    "datasets": (READ, TEAM),
    "dataset": (READ, TEAM),
    "dataset-versions": (READ, TEAM),
    "dataset-report": (READ, TEAM),
    "dataset-progress": (READ, TEAM),
    "dataset-download": (READ, TEAM),
    "dataset-problems": (READ, TEAM),
    "dataset-new": (BOTH, WORKERS),
    "dataset-upload": (BOTH, WORKERS),
    "dataset-columns": (BOTH, WORKERS),
    "dataset-rename": (SEND, WORKERS),
    "dataset-delete": (SEND, WORKERS),
    "dataset-rule": (SEND, WORKERS),
    "dataset-weights": (SEND, WORKERS),
    "dataset-undo": (SEND, WORKERS),
    "dataset-discard": (SEND, WORKERS),
    "dataset-save": (SEND, WORKERS),
    "dataset-rejoin": (SEND, WORKERS),
    "jobs": (READ, TEAM),
    "job": (READ, TEAM),
    "job-settings": (READ, TEAM),
    "job-figure": (READ, TEAM),
    "job-live": (READ, TEAM),
    "job-parts": (READ, TEAM),
    "job-new": (BOTH, WORKERS),
    "job-plan": (READ, WORKERS),
    "job-stop": (SEND, WORKERS),
    "job-pause": (SEND, WORKERS),
    "job-resume": (SEND, WORKERS),
    "job-snapshot": (SEND, WORKERS),
    "job-delete": (SEND, WORKERS),
    "snapshots": (READ, TEAM),
    "snapshot-delete": (SEND, WORKERS),
    "playground": (READ, TEAM),
    "playground-answer": (SEND, TEAM),
    "models": (READ, TEAM),
    "model-add": (SEND, ADMINS),
    "model-download": (SEND, ADMINS),
    "model-cancel": (SEND, ADMINS),
    "model-remove": (SEND, ADMINS),
    "engines": (READ, TEAM),
    "engine-add": (SEND, ADMINS),
    "engine-check": (SEND, ADMINS),
    "engine-key": (SEND, ADMINS),
    "engine-remove": (SEND, ADMINS),
}
# By its operation: those of the API that change something. Viewers may do the others.
CHANGING = {
    "upload_file",
    "delete_file",
    "delete_model",
    "remove_snapshot",
    "create_fine_tune",
    "cancel_fine_tune",
    "create_fine_tuning_job",
    "cancel_fine_tuning_job",
    "pause_fine_tuning_job",
    "resume_fine_tuning_job",
    "use_grader",
    "create_checkpoint_permissions",
    "delete_checkpoint_permission",
    "plan_fine_tuning_job",
    "request_job_snapshot",
}
READING = {
    "list_files",
    "retrieve_file",
    "download_file",
    "list_models",
    "retrieve_model",
    "list_snapshots",
    "retrieve_snapshot",
    "list_tags",
    "list_fine_tunes",
    "get_fine_tune",
    "list_fine_tune_events",
    "list_fine_tuning_jobs",
    "get_fine_tuning_job",
    "list_fine_tuning_events",
    "list_fine_tuning_checkpoints",
    "list_checkpoint_permissions",
    "create_completion",
    "list_engines",
    "create_engine_completion",
    "retrieve_engine",
    "create_chat_completion",
}
OPERATIONS = [
    (method.upper(), path, operation["operationId"])
    for path, operations in api.get_openapi_schema()["paths"].items()
    for method, operation in operations.items()
]


def addresses(found: list[URLPattern | URLResolver], before: str = "") -> Iterator:
    for pattern in found:
        path = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, path)
        elif not path.startswith("v1"):
            yield pattern.name, f"/{path}"


ADDRESSES = list(addresses(get_resolver().url_patterns))


@pytest.fixture
def members(member, viewer, admin) -> dict[str, Member]:
    other = factories.make_member("olga.other")
    people = [member, other, viewer, admin]
    return dict(zip(["member", "other member", "viewer", "admin"], people, strict=True))


@pytest.fixture
def places(members) -> dict[str, object]:
    """Makes what the addresses name, and returns it by how the addresses begin."""
    version = factories.make_dataset()
    job = factories.make_job(version, status="paused")
    create_api_key(member=members["member"])
    return {
        "/datasets/": version.dataset_id,
        "/jobs/": job.pk,
        "/snapshots/": factories.make_snapshot(job).pk,
        "/team/keys/": ApiKey.objects.get().pk,
        "/team/members/": members["viewer"].pk,
        "/team/webhooks/": Webhook.objects.create(
            url="http://127.0.0.1:9/", sealed_secret=seal("whsec_c2VjcmV0")
        ).pk,
    }


def filled(pattern: str, places: dict[str, object]) -> str:
    """Returns an address of that pattern."""
    pk = next((pk for start, pk in places.items() if pattern.startswith(start)), 0)
    names = {"pk": pk, "number": 1, "example": 1, "name": "nowhere", "token": "none"}
    return re.sub(r"<\w+:(\w+)>", lambda found: str(names[found[1]]), pattern)


def test_every_address_and_operation_has_its_line():
    named = {name for name, path in ADDRESSES if name}
    assert named == set(PAGES)
    assert [path for name, path in ADDRESSES if not name] == ["/sign-in/<str:token>"]
    assert {name for *_, name in OPERATIONS} == CHANGING | READING


@pytest.mark.parametrize("role", ROLES)
def test_pages(role, members, places):
    wrong = []
    client = Client(raise_request_exception=False)
    if role in members:
        client.force_login(members[role])
    for name, pattern in ADDRESSES:
        methods, roles = PAGES[name or "sign-in-link"]
        path = filled(pattern, places)
        for method in METHODS:
            # A stream has no end, and a connection of its own: see test_leaving.py.
            if name == "job-live" and method in {"GET", "HEAD"} and role in roles:
                continue
            taken = method in methods or (method == "HEAD" and "GET" in methods)
            status = status_of(client, method, path)
            if not is_right(status, taken=taken, allowed=role in roles, role=role):
                wrong.append((method, path, status))
    assert "\n".join(map(str, wrong)) == ""


def status_of(client: Client, method: str, path: str) -> object:
    """Asks, and takes back what that changes."""
    cookies = client.cookies.output()
    with transaction.atomic():
        answer = client.generic(method, path)
        transaction.set_rollback(True)
    client.cookies.load(cookies.replace("Set-Cookie: ", ""))
    if answer.status_code == 302 and answer["Location"].startswith("/sign-in/?next="):
        return "sign in"
    return answer.status_code


def is_right(status: object, *, taken: bool, allowed: bool, role: str) -> bool:
    if role == "signed out" and not allowed:
        return status == "sign in"
    if not allowed:
        # Another member's things look as if they were not there.
        return status in {403, 404, 405}
    if not taken:
        return status == 405
    return status not in {403, 405, 500, "sign in"}


@pytest.mark.parametrize("role", ROLES)
def test_api(role, members, places):
    key = create_api_key(member=members[role]) if role in members else ""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    wrong = []
    for method, pattern, name in OPERATIONS:
        path = re.sub(r"{\w+}", "nothing", pattern)
        client = Client(raise_request_exception=False)
        answer = client.generic(
            method, path, json.dumps({}), "application/json", headers=headers
        )
        allowed = role in (WORKERS if name in CHANGING else TEAM)
        refused = answer.status_code in {401, 403}
        expected = 401 if not key else 403
        if refused == allowed or (refused and answer.status_code != expected):
            wrong.append((method, path, answer.status_code))
        if answer.status_code >= 500:
            wrong.append((method, path, answer.status_code))
    assert "\n".join(map(str, wrong)) == ""


def test_posts_without_the_sites_token_are_refused(members, places):
    """A page of somebody else cannot press a member's buttons."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(members["admin"])
    taken = []
    for name, pattern in ADDRESSES:
        path = filled(pattern, places)
        if "POST" not in PAGES[name or "sign-in-link"][0]:
            continue
        if client.post(path).status_code != 403:
            taken.append(path)
    assert taken == []


def test_no_cache_keeps_what_members_see(members, places):
    client = Client()
    client.force_login(members["admin"])
    kept = []
    for name, pattern in ADDRESSES:
        path = filled(pattern, places)
        if PAGES[name or "sign-in-link"][0] == SEND or name == "job-live":
            continue
        rule = client.get(path)["Cache-Control"]
        # A figure may be kept by the browser, which asks whether it is still true.
        if "private" not in rule or not {"no-store", "no-cache"} & set(
            rule.split(", ")
        ):
            kept.append((path, rule))
    assert kept == []


@pytest.mark.parametrize("https", [False, True])
def test_browsers_are_told_what_pages_may_do(client, settings, https):
    if https:
        settings.SECURE_HSTS_SECONDS = 60 * 60 * 24 * 365
        settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True
    headers = Client().get("/sign-in/", secure=https).headers
    rules = headers["Content-Security-Policy"].split("; ")
    assert dict(rule.split(" ", 1) for rule in rules) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    expected = "max-age=31536000; includeSubDomains; preload" if https else None
    assert headers.get("Strict-Transport-Security") == expected
