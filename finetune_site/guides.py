"""Reads the pages of Help that are files of `docs/`, so that both say the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import slugify
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

FOLDER = Path(settings.BASE_DIR, "docs")
SECTION = "\n## "


@dataclass(frozen=True)
class Section:
    title: str
    anchor: str
    html: SafeString


class Renderer(RendererHTML):
    """Writes tables and code with the elements of our look."""

    def table_open(
        self, tokens: Sequence[Token], idx: int, options: Any, env: Any
    ) -> str:
        # Each region needs a name of its own. The section's title serves, since no
        # section has two tables.
        label = escape(env["title"])
        return (
            f'<div class="scroll-x" tabindex="0" role="region" aria-label="{label}">'
            '<table class="table">'
        )

    def table_close(self, tokens: Sequence[Token], *rest: Any) -> str:
        return "</table></div>"

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        text = escape(tokens[idx].content)
        return (
            '<div class="code"><pre tabindex="0" aria-label="Code"><code>'
            f"{text}</code></pre></div>"
        )

    code_block = fence


@cache
def read_guide(name: str) -> tuple[Section, ...]:
    """Returns the sections of a guide. The text before the first heading is a section
    without a title.
    """
    return tuple(_sections((FOLDER / f"{name}.md").read_text(encoding="utf-8")))


def _sections(text: str) -> Iterator[Section]:
    first, *others = text.split(SECTION)
    # Its first line is the page's heading, which the template writes.
    yield Section("", "", _render("", first.partition("\n")[2]))
    for part in others:
        title, _, body = part.partition("\n")
        yield Section(title, slugify(title), _render(title, body))


def _render(title: str, text: str) -> SafeString:
    markdown = MarkdownIt("commonmark", {"html": False}, renderer_cls=Renderer)
    # It is a file of ours, and HTML in it would be escaped.
    return mark_safe(markdown.enable("table").render(text, {"title": title}))  # noqa: S308
