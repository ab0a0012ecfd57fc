"""Base models as people meet them: rows, background work, page, roles."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ

from finetune_site.common.claims import ClaimLostError
from finetune_site.common.errors import UserError
from finetune_site.team.models import AuditEntry
from jobs.base_models import download as downloading
from jobs.base_models.hub import TIMEOUT
from jobs.models import Job, ModelDownload
from jobs.pages.models import read_models
from jobs.services import base_models as services
from jobs.services import download_claims, downloads
from jobs.services.specs import build_spec
from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.contract.settings import FULL, LORA
from jobs.trainer.contract.spec import ModelSource
from tests.support import factories
from tests.support.hub_server import HUB_ID, REVISION, running_hub, tiny_files
from tests.support.running_site import free_port
from tests.support.training import RIDDLES, make_run, of_type, train
from tests.support.watching import run_tasks

Status = ModelDownload.Status
WEIGHTS = "model.safetensors"
SIZE = sum(map(len, tiny_files().values()))


@pytest.fixture
def hub(settings, monkeypatch):
    monkeypatch.setattr(downloading, "PAUSES_SECONDS", ())
    monkeypatch.setattr(download_claims, "REPORT_SECONDS", 0.0)
    with running_hub() as hub:
        settings.HUB_ENDPOINT = hub.url
        yield hub


@pytest.fixture
def added(hub, admin) -> ModelDownload:
    return services.add_model(member=admin, hub_id=HUB_ID)


@pytest.fixture
def models_dir(data_dir: Path) -> Path:
    return data_dir / "models"


def start(download: ModelDownload) -> ModelDownload:
    return services.start_download(member=None, name=download.name)


def state_of(name: str) -> str:
    return {row.name: row.state for row in read_models()["models"]}[name]


# ----- adding


def test_added_model_says_its_licence_and_size_before_it_is_fetched(hub, added):
    assert (added.name, added.licence) == ("small", "cdla-sharing-1.0")
    assert (added.revision, added.bytes_total) == (REVISION, SIZE)
    assert state_of("small") == "missing"
    assert hub.bytes_served == 0


def test_address_of_a_models_page_is_an_id_too(hub, admin):
    url = f"https://huggingface.co/{HUB_ID}/"
    assert services.add_model(member=admin, hub_id=url, name="x").hub_id == HUB_ID


@pytest.mark.parametrize(
    ("hub_id", "name", "field"),
    [
        ("", "x", "hub_id"),
        ("a/b/c", "x", "hub_id"),
        ("../etc/passwd", "x", "hub_id"),
        ("Qwen/Qwen3-0.6B-Base", "x", "hub_id"),
        ("team/unknown", "x", "hub_id"),
        (HUB_ID, "tiny", "name"),
        (HUB_ID, "Ada", "name"),
        (HUB_ID, "snapshot", "name"),
        (HUB_ID, "../x", "name"),
    ],
)
def test_model_that_cannot_be_added(hub, admin, hub_id, name, field):
    with pytest.raises(UserError) as caught:
        services.add_model(member=admin, hub_id=hub_id, name=name)
    assert caught.value.field == field
    assert not ModelDownload.objects.exists()


def test_name_is_taken_once(added, admin):
    with pytest.raises(UserError, match="a base model named Small already") as caught:
        services.add_model(member=admin, hub_id=HUB_ID, name="Small")
    assert caught.value.link == "/models/#model-small"


# ----- downloading


def test_download_makes_a_model_ready(added, models_dir):
    start(added)
    assert downloads.download_next() is False
    added.refresh_from_db()
    assert (added.status, added.bytes_done) == (Status.READY, SIZE)
    assert state_of("small") == "trying"
    factories.mark_tried(models_dir / "small")
    assert state_of("small") == "ready"
    assert list((models_dir / downloads.DRAFTS).iterdir()) == []


@pytest.mark.django_db(transaction=True)
def test_worker_takes_it_up_and_hands_on_until_it_is_whole(hub, added, monkeypatch):
    hub.pause_seconds = 0.002
    monkeypatch.setattr(downloads, "SLICE_SECONDS", 0.1)
    start(added)
    names = []
    while tasks := run_tasks():
        names += tasks
    assert set(names) == {"jobs.tasks.download_model"}
    assert len(names) > 1
    assert state_of("small") == "trying"


def test_model_of_the_catalogue_comes_from_its_hub_id(hub, admin):
    hub.repos["Qwen/Qwen3-0.6B-Base"] = tiny_files()
    services.start_download(member=admin, name="ada")
    downloads.download_next()
    assert state_of("ada") == "trying"


def test_resume_fetches_the_commit_of_the_start(hub, added):
    hub.refusals[f"/revision/{REVISION}"] = hub.refusals["main"] = (404, "")
    start(added)
    downloads.download_next()
    assert state_of("small") == "trying"


def test_cancel_is_seen_at_once_and_keeps_what_has_come(added, models_dir, hub):
    start(added)
    part = models_dir / downloads.DRAFTS / "small" / f"{WEIGHTS}.part"
    report = download_claims.Claim.report

    def cancel_half_way(claim, bytes_done, message=""):
        if bytes_done > SIZE / 2:
            services.cancel_download(member=None, name="small")
        report(claim, bytes_done, message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download_claims.Claim, "report", cancel_half_way)
        downloads.download_next()
    assert SIZE * 0.4 < part.stat().st_size < SIZE * 0.6
    assert state_of("small") == "cancelled"
    kept = part.stat().st_size
    start(added)
    downloads.download_next()
    assert hub.starts == [0, kept]
    assert state_of("small") == "trying"


def test_one_model_is_downloaded_at_a_time(added, admin, hub):
    other = services.add_model(member=admin, hub_id=HUB_ID, name="other")
    start(added)
    start(other)
    claim = download_claims.Claim.take_next()
    assert claim.pk == added.pk
    assert downloads.download_next() is False
    assert (state_of("small"), state_of("other")) == ("downloading", "waiting")


def test_claim_of_a_dead_worker_is_taken_over_by_the_watchers_wish(added):
    start(added)
    OrmQ.objects.all().delete()
    assert not downloads.requeue_stale_downloads()
    long_ago = timezone.now() - timedelta(seconds=download_claims.CLAIM_SECONDS + 1)
    ModelDownload.objects.update(asked_at=long_ago, claimed_at=timezone.now())
    assert not downloads.requeue_stale_downloads()
    ModelDownload.objects.update(claimed_at=long_ago)
    assert downloads.requeue_stale_downloads()
    assert OrmQ.objects.count() == 1
    assert not downloads.requeue_stale_downloads()
    run_tasks()
    assert state_of("small") == "trying"


def test_loser_of_a_claim_changes_nothing_more(added):
    start(added)
    lost = download_claims.Claim.take_next()
    ModelDownload.objects.update(claimed_at=timezone.now())
    with pytest.raises(ClaimLostError):
        lost.update(bytes_done=5)


def test_kill_between_the_folder_and_the_row_is_made_good(added, models_dir):
    shutil.copytree(SHIPPED / "tiny", models_dir / "small")
    ModelDownload.objects.update(status=Status.DOWNLOADING)
    downloads.download_next()
    assert ModelDownload.objects.get().status == Status.READY


def test_cancel_just_before_the_end_leaves_no_model(added, models_dir, monkeypatch):
    def cancel_meanwhile(folder: Path) -> str:
        services.cancel_download(member=None, name="small")
        return ""

    start(added)
    monkeypatch.setattr(downloads, "fault_of", cancel_meanwhile)
    downloads.download_next()
    assert state_of("small") == "cancelled"
    assert not (models_dir / "small").exists()


def test_folder_that_cannot_get_its_name_leaves_the_row_failed(
    added, models_dir, monkeypatch
):
    def put_in_the_way(folder: Path) -> str:
        (models_dir / "small").mkdir()
        (models_dir / "small" / "x").touch()
        return ""

    start(added)
    monkeypatch.setattr(downloads, "fault_of", put_in_the_way)
    downloads.download_next()
    assert ModelDownload.objects.get().status == Status.FAILED


def test_claim_outlasts_the_longest_silence_of_a_hub():
    connect, read = TIMEOUT
    assert 2 * (connect + read) + read < download_claims.CLAIM_SECONDS


def test_failed_download_says_why_and_can_be_resumed(hub, added):
    hub.digests[WEIGHTS] = "0" * 64
    ModelDownload.objects.all().delete()
    download = services.add_model(member=None, hub_id=HUB_ID)
    start(download)
    downloads.download_next()
    download.refresh_from_db()
    assert download.status == Status.FAILED
    assert "did not arrive as the hub has it" in download.message
    assert start(download).status == Status.DOWNLOADING


def test_no_way_to_the_hub_tells_of_the_folder(admin, settings, db):
    settings.HUB_ENDPOINT = f"http://127.0.0.1:{free_port()}"
    services.start_download(member=admin, name="ada")
    downloads.download_next()
    message = ModelDownload.objects.get().message
    assert message.startswith("The model hub could not be reached from this machine")
    assert message.endswith("Or copy the model's folder to DATA_DIR/models/ada.")


def test_drafts_without_a_row_are_cleared(added, models_dir):
    left = models_dir / downloads.DRAFTS / "left"
    left.mkdir(parents=True)
    start(added)
    downloads.download_next()
    assert not left.exists()


# ----- removing


@pytest.fixture
def ready(added) -> ModelDownload:
    start(added)
    downloads.download_next()
    return added


def test_removed_model_is_gone_with_its_files(ready, models_dir, admin):
    services.remove_model(member=admin, name="small")
    assert not (models_dir / "small").exists()
    assert list((models_dir / downloads.DRAFTS).iterdir()) == []
    assert not ModelDownload.objects.exists()


def test_removed_link_leaves_the_folder_it_leads_to(models_dir, tmp_path, db):
    models_dir.mkdir()
    shared = shutil.copytree(SHIPPED / "tiny", tmp_path / "shared")
    (models_dir / "linked").symlink_to(shared)
    assert state_of("linked") == "trying"
    services.remove_model(member=None, name="linked")
    assert list(models_dir.iterdir()) == []
    assert (shared / WEIGHTS).is_file()


@pytest.mark.parametrize("name", ["tiny", "ada", "none", "..", ".downloads"])
def test_what_is_not_there_to_be_removed(name, data_dir, db):
    (data_dir / "models").mkdir()
    with pytest.raises(UserError):
        services.remove_model(member=None, name=name)
    assert (data_dir / "models").is_dir()


def test_folder_in_place_of_the_model_that_ships_is_not_removable(models_dir, db):
    shutil.copytree(SHIPPED / "tiny", models_dir / "tiny")
    [tiny] = [row for row in read_models()["models"] if row.name == "tiny"]
    assert not tiny.removable


def test_model_of_an_unfinished_job_stays(ready):
    factories.make_job(name="Poems", base_model="small", status=Job.Status.PAUSED)
    with pytest.raises(UserError, match="the job Poems needs it"):
        services.remove_model(member=None, name="small")


def test_model_under_an_adapter_stays(ready):
    fields = {"base_model": "small", "status": Job.Status.SUCCEEDED}
    whole = factories.make_job(method=FULL, **fields)
    factories.make_snapshot(whole)
    job = factories.make_job(name="Poems", method=LORA, **fields)
    factories.make_snapshot(job)
    with pytest.raises(UserError, match="snapshots of the job Poems"):
        services.remove_model(member=None, name="small")
    job.delete()
    services.remove_model(member=None, name="small")


def test_job_whose_base_model_is_gone_says_so(db):
    with pytest.raises(UserError, match="no longer on this machine"):
        build_spec(factories.make_job(base_model="gone"))


# ----- the page


def test_page_offers_what_can_be_done(client, admin, added):
    client.force_login(admin)
    text = client.get(reverse("models")).content.decode()
    assert "Licence: cdla-sharing-1.0" in text
    for name in ("ada", "davinci", "small"):
        assert reverse("model-download", args=[name]) in text
    assert reverse("model-remove", args=["tiny"]) not in text


def test_admin_adds_downloads_cancels_resumes_and_removes(client, admin, hub):
    client.force_login(admin)
    client.post(reverse("model-add"), {"hub_id": HUB_ID, "name": "ours"})
    for action, state in (
        ("download", "downloading"),
        ("cancel", "cancelled"),
        ("download", "downloading"),
        ("cancel", "cancelled"),
    ):
        response = client.post(reverse(f"model-{action}", args=["ours"]))
        assert response.status_code == 302
        assert state_of("ours") == state
    client.post(reverse("model-remove", args=["ours"]))
    assert not ModelDownload.objects.exists()
    actions = AuditEntry.objects.order_by("id").values_list("action", flat=True)
    assert list(actions)[-6:] == [
        "model.add",
        "model.download",
        "model.cancel",
        "model.download",
        "model.cancel",
        "model.remove",
    ]


@pytest.mark.parametrize("role", ["member", "viewer"])
def test_others_than_admins_only_look(client, request, role, added):
    client.force_login(request.getfixturevalue(role))
    text = client.get(reverse("models")).content.decode()
    assert "Not downloaded" in text
    assert "formaction" not in text
    assert client.post(reverse("model-add"), {"hub_id": "a/b"}).status_code == 403
    for action in ("download", "cancel", "remove"):
        url = reverse(f"model-{action}", args=["small"])
        assert client.post(url).status_code == 403
    assert ModelDownload.objects.get().status == Status.ADDED


def test_error_stands_beside_the_field_it_is_about(client, admin, hub):
    client.force_login(admin)
    response = client.post(reverse("model-add"), {"hub_id": "team/none", "name": ""})
    assert response.status_code == 422
    [error] = response.context["form"].errors["hub_id"]
    assert error.startswith("The hub has no team/none")


def test_refused_action_is_said(client, admin, added):
    client.force_login(admin)
    url = reverse("model-cancel", args=["small"])
    text = client.post(url, follow=True).content.decode()
    assert "small is not being downloaded" in text


def test_progress_is_in_the_part_that_is_refreshed(client, member, added):
    start(added)
    now = timezone.now()
    ModelDownload.objects.update(
        bytes_done=4_000_000, bytes_total=12_000_000, bytes_per_second=1e6
    )
    ModelDownload.objects.update(claimed_at=now)
    client.force_login(member)
    text = client.get(reverse("models"), {"part": "live"}).content.decode()
    assert "data-busy" in text
    assert "4\u00a0MB of 12\u00a0MB, 1\u00a0MB/s, a few seconds left" in text


def test_switched_off_hub_offers_the_folder_only(client, admin, settings):
    settings.HUB_ENDPOINT = ""
    client.force_login(admin)
    text = client.get(reverse("models")).content.decode()
    assert "Downloads are switched off" in text
    assert reverse("model-download", args=["ada"]) not in text
    with pytest.raises(UserError, match="switched off"):
        services.start_download(member=admin, name="ada")


def test_broken_folder_is_shown_and_cannot_be_chosen(client, admin, models_dir):
    factories.make_dataset()
    shutil.copytree(SHIPPED / "tiny", models_dir / "ours")
    (models_dir / "ours" / WEIGHTS).unlink()
    client.force_login(admin)
    text = client.get(reverse("models")).content.decode()
    assert "There are no safetensors weights in it" in text
    form = client.get(reverse("job-new")).context["form"]
    assert [card["model"].name for card in form.models] == ["tiny"]


def test_folder_whose_name_is_no_utf8_is_shown_without_a_button(
    client, admin, models_dir
):
    shutil.copytree(SHIPPED / "tiny", models_dir / os.fsdecode(b"\xff"))
    client.force_login(admin)
    text = client.get(reverse("models")).content.decode()
    assert "Rename the folder" in text
    assert reverse("model-remove", args=["?"]) not in text


@pytest.mark.parametrize("page", ["models", "job-new", "playground"])
def test_odd_folder_breaks_no_page(client, admin, models_dir, page):
    odd = shutil.copytree(SHIPPED / "tiny", models_dir / "odd")
    (odd / "generation_config.json").write_bytes(b"[" * 100_000)
    client.force_login(admin)
    assert client.get(reverse(page)).status_code == 200


def test_copied_folder_can_be_chosen_for_a_job(client, member, models_dir):
    factories.mark_tried(shutil.copytree(SHIPPED / "tiny", models_dir / "ours"))
    version = factories.make_dataset()
    client.force_login(member)
    form = client.get(reverse("job-new")).context["form"]
    assert [card["model"].name for card in form.models] == ["tiny", "ours"]
    plan = {"dataset_version": version.pk, "base_model": "ours", "suggest": ""}
    suggested = client.get(reverse("job-plan"), plan).json()["suggested"]
    assert suggested["max_tokens"] <= 256


def test_job_trains_from_a_downloaded_model(ready, models_dir, tmp_path):
    source = ModelSource(base_model="small", path=str(models_dir / "small"))
    run = make_run(tmp_path / "run", RIDDLES[:1], model=source)
    [step] = of_type(train(run), "step")
    assert step["step"] == 1
    assert (run.snapshots / "1" / WEIGHTS).is_file()
