import re
from pathlib import Path

import pytest
from django import forms
from django.conf import settings
from django.template import Context, Template
from django.test import RequestFactory

from finetune_site.context import navigation
from tests.support.factories import make_job

HOSTILE = "<script>alert(1)</script>"


def render(source, **context):
    return Template(source).render(Context(context))


class Settings(forms.Form):
    epochs = forms.IntegerField(help_text="How often each example is seen")
    start = forms.ChoiceField(
        choices=[("a", "The whole model"), ("b", "LoRA")], widget=forms.RadioSelect
    )
    note = forms.CharField(widget=forms.Textarea, required=False)
    agree = forms.BooleanField(required=False)


def test_icon_points_into_the_sprite():
    html = render('{% icon "check" "small" %}')
    assert 'class="icon small"' in html
    assert 'href="/static/icons.svg#i-check"' in html


def test_every_icon_named_in_a_template_is_in_the_sprite():
    sprite = Path(settings.BASE_DIR, "static", "icons.svg").read_text(encoding="utf-8")
    templates = Path(settings.BASE_DIR, "templates").rglob("*.html")
    named = {
        name
        for path in templates
        for name in re.findall(
            r'{% (?:icon|empty) "([a-z-]+)"', path.read_text(encoding="utf-8")
        )
    }
    assert [name for name in named if f'id="i-{name}"' not in sprite] == []


@pytest.mark.parametrize("status", ["running", "failed", "succeeded"])
def test_badge_has_icon_and_word(status):
    html = render("{% badge status %}", status=status)
    assert f'data-status="{status}"' in html
    assert "<use" in html
    assert status.capitalize() in html


def test_progress_without_steps_is_empty_not_broken():
    assert 'max="1"' in render('{% progress 0 0 "Step 0" %}')


def test_segments_show_text_exactly_and_escaped():
    html = render("{% segments s %}", s=[(f"a {HOSTILE}", 0), ("b", 0.9)])
    assert "<script>" not in html
    assert 'data-w="0">a &lt;script&gt;' in html
    assert 'data-w="9">b<' in html


def test_shares_add_up():
    html = render("{% shares parts %}", parts=[("Jokes", 2), ("Answers", 1)])
    assert "67&nbsp;%" in html
    assert "33&nbsp;%" in html


def test_empty_state_has_one_button():
    html = render('{% empty "datasets" "No datasets" "Upload one." "/x/" "Upload" %}')
    assert html.count("<a ") == 1


def test_field_wires_help_and_error():
    form = Settings({"epochs": "many", "start": "a"})
    html = render('{% field form.epochs unit="steps" help_url="epochs" %}', form=form)
    assert 'aria-describedby="id_epochs_help id_epochs_error"' in html
    assert 'aria-invalid="true"' in html
    assert 'id="id_epochs_help"' in html
    assert 'id="id_epochs_error"' in html
    assert 'class="input"' in html
    assert '<span class="unit">steps</span>' in html


def test_field_without_help_or_error_names_nothing():
    assert "aria-" not in render("{% field form.note %}", form=Settings())


def test_radios_become_a_group_with_a_legend():
    html = render('{% field form.start kind="choices" %}', form=Settings())
    assert "<fieldset" in html
    assert html.count('class="choice"') == 2


def test_checkbox_has_its_label_around_it():
    html = render("{% field form.agree %}", form=Settings())
    assert '<label class="check"><input type="checkbox"' in html


def test_field_escapes_what_was_typed():
    form = Settings({"epochs": HOSTILE, "note": HOSTILE})
    html = render("{% field form.epochs %}{% field form.note %}", form=form)
    assert "<script>" not in html


@pytest.fixture
def draw_page(admin):
    def draw(user=admin):
        request = RequestFactory().get("/")
        request.user = user
        return Template('{% extends "base.html" %}').render(
            Context({"request": request, "user": user, **navigation(request)})
        )

    return draw


def test_page_shows_the_running_job_at_its_side(draw_page):
    make_job(name="Jokes, gentle", status="running", step=3, total_steps=9)
    html = draw_page()
    assert "Jokes, gentle" in html
    assert "1 running" in html


def test_navigation_costs_one_query(draw_page, django_assert_num_queries):
    make_job(status="running")
    with django_assert_num_queries(1):
        draw_page()


def test_page_has_nothing_inline(draw_page):
    html = draw_page()
    assert "style=" not in html
    assert re.findall(r"<script(?![^>]*src=)", html) == []
    assert re.findall(r"\son[a-z]+=", html) == []
