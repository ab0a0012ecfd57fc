"""The page of base models in a browser: what is pressed, and what it then shows."""

import pytest
from django.conf import settings as site_settings

from jobs.models import ModelDownload
from jobs.services import base_models as services
from jobs.services import downloads
from tests.support import factories
from tests.support.hub_server import HUB_ID, running_hub

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def models(page, live_server, client, admin):
    """Opens the page of base models, signed in."""
    client.force_login(admin)
    cookie = client.cookies[site_settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies(
        [{"name": "sessionid", "value": cookie, "url": live_server.url}]
    )
    page.goto(f"{live_server.url}/models/")
    return page


def test_download_is_pressed_watched_and_its_model_removed(models, settings, admin):
    with running_hub() as hub:
        settings.HUB_ENDPOINT = hub.url
        services.add_model(member=admin, hub_id=HUB_ID, name="ours")
        models.reload()
        row = models.locator("#model-ours")
        row.get_by_role("button", name="Download").click()
        row.get_by_role("progressbar").wait_for()
        downloads.download_next()
        row.get_by_text("Being tried").wait_for()
        factories.mark_tried(settings.DATA_DIR / "models" / "ours")
        row.get_by_text("Ready").wait_for()
    row.get_by_role("button", name="Remove").click()
    models.get_by_role("dialog").get_by_role("button", name="Remove").click()
    models.get_by_text("ours is removed.").wait_for()
    assert row.count() == 0
    assert not ModelDownload.objects.exists()
