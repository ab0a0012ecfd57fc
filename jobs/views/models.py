"""The page of base models that training can start from."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from finetune_site.common.errors import UserError
from finetune_site.team.access import admin_required, current_member
from finetune_site.team.one_deed import one_deed
from jobs.pages.model_form import ModelForm
from jobs.pages.models import read_models
from jobs.services import base_models as services


@require_safe
def models(request: HttpRequest) -> HttpResponse:
    """Lists the models. With `?part=live` it is the table alone, for refresh.js."""
    context = {**read_models(), "form": ModelForm()}
    template = (
        "models/_list.html" if request.GET.get("part") == "live" else "models/list.html"
    )
    return render(request, template, context)


@require_POST
@admin_required
@one_deed
def model_add(request: HttpRequest) -> HttpResponse:
    form = ModelForm(request.POST)
    if form.is_valid():
        try:
            added = services.add_model(
                member=current_member(request), **form.cleaned_data
            )
        except UserError as error:
            form.add_user_error(error)
        else:
            messages.success(
                request,
                f"{added} is in the list. Read its licence, then download it.",
            )
            return redirect("models")
    context = {**read_models(), "form": form}
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    return render(request, "models/list.html", context, status=status)


@require_POST
@admin_required
def model_download(request: HttpRequest, name: str) -> HttpResponse:
    return _act(request, services.start_download, name)


@require_POST
@admin_required
def model_cancel(request: HttpRequest, name: str) -> HttpResponse:
    done = f"The download of {name} is cancelled. What has come is kept."
    return _act(request, services.cancel_download, name, done)


@require_POST
@admin_required
def model_remove(request: HttpRequest, name: str) -> HttpResponse:
    return _act(request, services.remove_model, name, f"{name} is removed.")


def _act(
    request: HttpRequest, service: Callable[..., Any], name: str, done: str = ""
) -> HttpResponse:
    """Does what a button of the list asks for.

    `done` is said afterwards, where the list does not show it by itself.
    """
    try:
        service(member=current_member(request), name=name)
    except UserError as error:
        messages.error(request, error.message)
    else:
        if done:
            messages.success(request, done)
    return redirect("models")
