import re
from pathlib import Path

import pytest
from django.conf import settings
from django.template.loader import render_to_string

TEMPLATES = Path(settings.BASE_DIR, "templates")


@pytest.fixture
def help_text(client, viewer):
    client.force_login(viewer)
    return client.get("/help/").content.decode()


def test_contents_lead_somewhere(help_text):
    ids = set(re.findall(r' id="([a-z-]+)"', help_text))
    links = set(re.findall(r'href="#([a-z-]+)"', help_text))
    assert links - ids == set()


def test_every_link_into_help_has_its_anchor(help_text):
    ids = set(re.findall(r' id="([a-z-]+)"', help_text))
    pages = [path.read_text(encoding="utf-8") for path in TEMPLATES.rglob("*.html")]
    named = {
        anchor
        for page in pages
        for pair in re.findall(
            r"""help_url="([a-z-]+)"|\{% url ['"]help['"] %\}#([a-z-]+)""", page
        )
        for anchor in pair
        if anchor
    }
    assert named - ids == set()


def test_help_says_that_weights_are_relative(help_text):
    assert "Weights are relative." in help_text


def test_the_guide_for_developers_is_the_file_of_the_docs(client, viewer):
    client.force_login(viewer)
    page = client.get("/help/moving-from-openai/").content.decode()
    guide = Path(settings.BASE_DIR, "docs", "moving-from-openai.md").read_text(
        encoding="utf-8"
    )
    titles = re.findall("^## (.+)$", guide, re.M)
    assert titles and all(f">{title}</h2>" in page for title in titles)
    assert "counts <strong>rows</strong> of" in page


def test_contents_of_the_guide_lead_somewhere(client, viewer):
    client.force_login(viewer)
    page = client.get("/help/moving-from-openai/").content.decode()
    ids = set(re.findall(r' id="([a-z-]+)"', page))
    assert set(re.findall(r'href="#([a-z-]+)"', page)) - ids == set()


@pytest.mark.parametrize("name", ["400.html", "500.html"])
def test_page_of_a_broken_site_needs_no_database(name):
    assert "To the home page" in render_to_string(name)


def test_missing_page_keeps_the_navigation_for_members(client, member):
    client.force_login(member)
    response = client.get("/no-such-page/")
    assert response.status_code == 404
    assert 'aria-label="Main"' in response.content.decode()


def test_missing_page_tells_strangers_nothing(client, db):
    page = client.get("/no-such-page/").content.decode()
    assert 'aria-label="Main"' not in page


def test_forbidden_page_says_why(client, member):
    client.force_login(member)
    response = client.post("/team/members/")
    assert response.status_code == 403
    assert "Only admins" in response.content.decode()
