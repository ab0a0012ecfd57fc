"""Shows the pages that belong to no app: home and Help."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from finetune_site.first_steps import FirstStep, read_first_steps
from finetune_site.guides import read_guide
from finetune_site.home import read_home
from finetune_site.team.access import current_member
from jobs.pages.machine import read_machine
from jobs.views.playground import TRIED

STEPS_HIDDEN = "first_steps_hidden"


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Shows the home page. With `?part=live` it is only what changes while jobs run,
    which refresh.js puts into the page.
    """
    context = {"home": read_home(), "machine": read_machine(), **_first_steps(request)}
    context["is_new_here"] = context["next_step"] == 1
    if request.GET.get("part") == "live":
        return render(request, "home/live.html", context)
    return render(request, "home/page.html", context)


@require_POST
def home_steps_hide(request: HttpRequest) -> HttpResponse:
    request.session[STEPS_HIDDEN] = True
    return redirect("home")


@require_safe
def help_page(request: HttpRequest) -> HttpResponse:
    return render(request, "help/page.html")


@require_safe
def help_moving(request: HttpRequest) -> HttpResponse:
    sections = read_guide("moving-from-openai")
    return render(request, "help/moving.html", {"sections": sections})


def _first_steps(request: HttpRequest) -> dict[str, Any]:
    steps: list[FirstStep] = []
    if not request.session.get(STEPS_HIDDEN):
        has_tried = bool(request.session.get(TRIED))
        steps = read_first_steps(current_member(request), has_tried=has_tried)
    undone = (number for number, step in enumerate(steps, 1) if not step.done)
    return {"steps": steps, "next_step": next(undone, 0)}
