"""Actions on a version's draft. Each changes something and goes back to the page."""

from django.contrib import messages
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from datasets import services
from datasets.pages.forms import RejoinForm, RuleForm, SaveForm, numbers_of
from datasets.views.pages import back_to, dataset_url, get_version
from finetune_site.common.errors import UserError
from finetune_site.common.parsing import small_int
from finetune_site.team.access import current_member, member_required
from finetune_site.team.one_deed import one_deed


@require_POST
@member_required
@one_deed
def dataset_rule(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    version = get_version(pk, number)
    form = RuleForm(request.POST)
    try:
        _check(form)
        services.change_weight(
            member=current_member(request),
            version=version,
            segment=form.cleaned_data["segment"],
            weight=form.cleaned_data["weight"],
        )
    except UserError as error:
        messages.error(request, error.message)
    return redirect(back_to(request, version))


@require_POST
@member_required
def dataset_weights(
    request: HttpRequest, pk: int, number: int, example: int
) -> HttpResponse:
    version = get_version(pk, number)
    if not example:
        raise Http404("Examples count from 1.")
    try:
        services.change_example(
            member=current_member(request),
            version=version,
            example=example - 1,
            weights=numbers_of(request.POST.getlist("weight")),
        )
    except UserError as error:
        messages.error(request, error.message)
    return redirect(f"{back_to(request, version)}#example-{example}")


@require_POST
@member_required
def dataset_undo(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    version = get_version(pk, number)
    change = small_int(request.POST.get("change", ""))
    services.undo_change(
        member=current_member(request), version=version, change_id=change
    )
    return redirect(back_to(request, version))


@require_POST
@member_required
def dataset_discard(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    version = get_version(pk, number)
    services.discard_draft(member=current_member(request), version=version)
    return redirect(back_to(request, version))


@require_POST
@member_required
@one_deed
def dataset_save(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    version = get_version(pk, number)
    form = SaveForm(request.POST)
    try:
        _check(form)
        services.save_draft(
            member=current_member(request),
            version=version,
            note=form.cleaned_data["note"],
        )
    except UserError as error:
        messages.error(request, error.message)
        return redirect(back_to(request, version))
    return redirect(dataset_url(pk))


@require_POST
@member_required
@one_deed
def dataset_rejoin(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    version = get_version(pk, number)
    form = RejoinForm(request.POST)
    try:
        _check(form)
        services.rejoin_version(
            member=current_member(request),
            version=version,
            joiner=form.cleaned_data["joiner"],
        )
    except UserError as error:
        messages.error(request, error.message)
        return redirect(back_to(request, version))
    return redirect(dataset_url(pk))


def _check(form: Form) -> None:
    if not form.is_valid():
        first = next(iter(form.errors.values()))
        raise UserError(str(first[0]))
