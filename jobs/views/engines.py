"""The page of engines: where jobs run, and how admins add other servers."""

from http import HTTPStatus

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from finetune_site.common.errors import UserError
from finetune_site.team.access import admin_required, current_member
from finetune_site.team.one_deed import one_deed
from jobs.pages.engine_form import EngineForm, KeyForm
from jobs.pages.engines import read_engines
from jobs.services import engines as services


@require_safe
def engines(request: HttpRequest) -> HttpResponse:
    """Shows the engines.

    With `?part=live` it is only what changes by itself: refresh.js puts it in place.
    """
    if request.GET.get("part") == "live":
        return render(request, "engines/live.html", read_engines())
    return _page(request, EngineForm())


def _page(request: HttpRequest, form: EngineForm, status: int = 200) -> HttpResponse:
    context = {**read_engines(), "form": form, "key_form": KeyForm()}
    return render(request, "engines/list.html", context, status=status)


@require_POST
@admin_required
@one_deed
def engine_add(request: HttpRequest) -> HttpResponse:
    form = EngineForm(request.POST)
    if form.is_valid():
        try:
            added = services.add_engine(
                member=current_member(request), **form.cleaned_data
            )
        except UserError as error:
            form.add_user_error(error)
        else:
            return _checked(request, added.name, "It is added. ")
    return _page(request, form, HTTPStatus.UNPROCESSABLE_ENTITY)


@require_POST
@admin_required
def engine_check(request: HttpRequest, name: str) -> HttpResponse:
    return _checked(request, name)


def _checked(request: HttpRequest, name: str, done: str = "") -> HttpResponse:
    """Goes back to the page, which says whether the engine can be used."""
    try:
        messages.success(request, done + services.check_engine(name=name))
    except UserError as error:
        messages.error(request, done + error.message)
    return redirect("engines")


@require_POST
@admin_required
def engine_key(request: HttpRequest, name: str) -> HttpResponse:
    try:
        services.change_key(
            member=current_member(request),
            name=name,
            key=request.POST.get("key", ""),
        )
    except UserError as error:
        messages.error(request, error.message)
        return redirect("engines")
    return _checked(request, name, "The key is changed. ")


@require_POST
@admin_required
def engine_remove(request: HttpRequest, name: str) -> HttpResponse:
    try:
        done = services.remove_engine(member=current_member(request), name=name)
    except UserError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, done)
    return redirect("engines")
