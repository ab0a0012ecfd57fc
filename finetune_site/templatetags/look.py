"""Template tags and filters of the look, one for each component."""

from collections.abc import Iterable
from typing import Any

from django import forms, template
from django.forms import BoundField
from django.template import Context
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from finetune_site.common import wording

register = template.Library()
register.filter("tenths", wording.tenths)
register.filter("weight", wording.weight)
register.filter("loss", wording.loss)
register.filter("count", wording.count)
register.filter("percent", wording.percent)
register.filter("parameters", wording.parameters)
register.filter("loss_change", wording.loss_change)
register.filter("bytes", wording.num_bytes)
register.filter("duration", wording.duration)
register.filter("about", wording.about)
register.filter("ago", wording.ago)
register.filter("time_left", wording.time_left)

# Status → icon and word. A status that is not here is shown as it is, without an icon.
BADGES = {
    "validating": ("queued", "Validating"),
    "columns": ("pause", "Waiting"),
    "importing": ("queued", "Importing"),
    "queued": ("queued", "Queued"),
    "running": ("running", "Running"),
    "paused": ("pause", "Paused"),
    "succeeded": ("check", "Succeeded"),
    "ready": ("check", "Ready"),
    "failed": ("failed", "Failed"),
    "cancelled": ("cancelled", "Stopped"),
}


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """Shows an icon of static/icons.svg. It is decoration: words stand beside it."""
    return format_html(
        '<svg class="{}" aria-hidden="true"><use href="{}#i-{}"/></svg>',
        f"icon {size}".strip(),
        static("icons.svg"),
        name,
    )


@register.inclusion_tag("parts/badge.html")
def badge(status: str, text: str = "", live: bool = False) -> dict[str, Any]:
    """Shows a status. With `live` a screen reader says it when it changes; a page may
    have one such badge.
    """
    icon_name, word = BADGES.get(status, ("", status))
    return {"status": status, "icon": icon_name, "word": text or word, "live": live}


@register.inclusion_tag("parts/progress.html")
def progress(value: float, maximum: float, label: str) -> dict[str, Any]:
    return {"value": value, "max": maximum or 1, "label": label}


@register.inclusion_tag("parts/empty.html")
def empty(
    icon: str, title: str, text: str, url: str = "", label: str = ""
) -> dict[str, Any]:
    return {"icon": icon, "title": title, "text": text, "url": url, "label": label}


@register.simple_tag
def segments(segments: Iterable[tuple[str, float]]) -> SafeString:
    """Shows text shaded by loss weight. No white space is added: the text is exact."""
    return format_html_join(
        "",
        '<span class="segment" data-w="{}">{}<span class="weight">'
        '<span class="sr"> loss weight </span>{}</span></span>',
        (
            (wording.tenths(weight), text, wording.weight(weight))
            for text, weight in segments
        ),
    )


@register.inclusion_tag("parts/shares.html")
def shares(parts: Iterable[tuple[str, float]]) -> dict[str, Any]:
    """Shows a bar of (label, share) pairs and its key. Percentages add up to 100."""
    pairs = list(parts)
    percents = wording.whole_percents([share for _, share in pairs])
    tones = ["", "mid", "low"]
    rows = [
        {
            "label": label,
            "percent": percent,
            "start": sum(percents[:i]),
            "tone": tones[min(i, 2)],
        }
        for i, ((label, _), percent) in enumerate(zip(pairs, percents, strict=True))
    ]
    return {"parts": rows}


@register.inclusion_tag("parts/form_errors.html")
def form_errors(form: forms.BaseForm) -> dict[str, Any]:
    """Shows the errors of the form as a whole; each field shows its own."""
    return {"errors": form.non_field_errors()}


@register.inclusion_tag("parts/field.html")
def field(
    bound: BoundField,
    why: str = "",
    unit: str = "",
    help_url: str = "",
    kind: str = "",
) -> dict[str, Any]:
    """Shows a labelled control. `kind` says how radios look: segmented or choices.

    `help_url` may be just an anchor of the help page: "epochs".
    """
    if help_url and "/" not in help_url:
        help_url = f"{reverse('help')}#{help_url}"
    return {
        "bound": bound,
        "id": bound.id_for_label or bound.auto_id,
        "control": _control(bound),
        "shape": _shape(bound.field.widget),
        "kind": kind or "segmented",
        "why": why,
        "unit": unit,
        "help_url": help_url,
        "link": getattr(bound.form, "links", {}).get(bound.name, ""),
    }


def _shape(widget: forms.Widget) -> str:
    if isinstance(widget, forms.RadioSelect | forms.CheckboxSelectMultiple):
        return "group"
    if isinstance(widget, forms.CheckboxInput):
        return "check"
    return "line"


def _control(bound: BoundField) -> SafeString:
    widget = bound.field.widget
    attrs: dict[str, Any] = {}
    described_by = [f"{bound.auto_id}_help"] if bound.help_text else []
    if bound.errors:
        attrs["aria-invalid"] = "true"
        described_by.append(f"{bound.auto_id}_error")
    if described_by:
        attrs["aria-describedby"] = " ".join(described_by)
    look = _look_class(widget)
    if look:
        attrs["class"] = f"{look} {widget.attrs.get('class', '')}".strip()
    return bound.as_widget(attrs=attrs)


def _look_class(widget: forms.Widget) -> str:
    if isinstance(widget, forms.Textarea):
        return "area"
    if isinstance(widget, forms.Select):
        return "select"
    if getattr(widget, "input_type", "") == "range":
        return "slider"
    return "input" if _shape(widget) == "line" else ""


@register.inclusion_tag("parts/nav_item.html", takes_context=True)
def nav_item(
    context: Context, name: str, title: str, count: str = ""
) -> dict[str, Any]:
    """Shows a link of the navigation, marked on its own page and on pages below it."""
    match = getattr(context.get("request"), "resolver_match", None)
    here = (match.url_name or "") if match else ""
    return {
        "url": reverse(name),
        "icon": name,
        "title": title,
        "count": count,
        "current": here.startswith(name.removesuffix("s")),
    }
