"""Shows the team page, and lets admins change members."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from finetune_site.common.errors import UserError
from finetune_site.team import selectors, services, throttle
from finetune_site.team.access import admin_required, current_member
from finetune_site.team.forms import KeyForm, MemberForm, PasswordForm
from finetune_site.team.models import Member, Role
from finetune_site.team.one_deed import one_deed
from finetune_site.team.views.sign_in import came_by_link_lately


@require_safe
def team(request: HttpRequest) -> HttpResponse:
    return show_team(request)


def show_team(request: HttpRequest, status: int = 200, **extra: Any) -> HttpResponse:
    """Shows the page, with a form that was refused or a secret that is shown once."""
    context = {
        "members": selectors.list_members(),
        "keys": selectors.list_keys(current_member(request)),
        "roles": Role.choices,
        "member_form": MemberForm(),
        "key_form": KeyForm(),
        "password_form": PasswordForm(knows_member=is_known(request)),
    }
    return render(request, "team/team.html", context | extra, status=status)


@require_POST
@admin_required
@never_cache
@one_deed
def team_member_add(request: HttpRequest) -> HttpResponse:
    form = MemberForm(request.POST)
    if not form.is_valid():
        return show_team(request, status=422, member_form=form)
    try:
        member = services.create_member(**form.cleaned_data, by=current_member(request))
    except UserError as error:
        form.add_user_error(error)
        return show_team(request, status=422, member_form=form)
    return _show_link(request, member)


@require_POST
@admin_required
@never_cache
@one_deed
def team_member_link(request: HttpRequest, pk: int) -> HttpResponse:
    member = get_object_or_404(Member, pk=pk, is_active=True)
    return _show_link(request, member)


@require_POST
@admin_required
def team_member_role(request: HttpRequest, pk: int) -> HttpResponse:
    member = get_object_or_404(Member, pk=pk)
    role = request.POST.get("role", "")
    try:
        services.set_role(member=member, role=role, by=current_member(request))
    except UserError as error:
        messages.error(request, error.message)
    else:
        word = Role(role).label.lower()
        messages.success(request, f"The role of {member.display_name} is {word}.")
    return redirect("team")


@require_POST
@admin_required
def team_member_active(request: HttpRequest, pk: int) -> HttpResponse:
    member = get_object_or_404(Member, pk=pk)
    change, word = services.activate_member, "can sign in again"
    if request.POST.get("active") != "yes":
        change, word = services.deactivate_member, "can no longer sign in"
    try:
        change(member=member, by=current_member(request))
    except UserError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{member.display_name} {word}.")
    return redirect("team")


@require_POST
def team_password(request: HttpRequest) -> HttpResponse:
    form = PasswordForm(request.POST, knows_member=is_known(request))
    if not form.is_valid():
        return show_team(request, status=422, password_form=form)
    member = current_member(request)
    try:
        if "old" in form.cleaned_data:
            throttle.check_old_password(
                member, form.cleaned_data["old"], request.META["REMOTE_ADDR"]
            )
        services.set_password(member=member, password=form.cleaned_data["password"])
    except UserError as error:
        form.add_user_error(error)
        return show_team(request, status=422, password_form=form)
    update_session_auth_hash(request, member)
    messages.success(request, "Your new password is set. Other sessions have ended.")
    return redirect("team")


def is_known(request: HttpRequest) -> bool:
    """Returns whether this is surely the member, and not somebody at an open screen.

    Who has just used a sign-in link has forgotten the password, or has none.
    """
    return came_by_link_lately(request)


def _show_link(request: HttpRequest, member: Member) -> HttpResponse:
    token = services.create_sign_in_link(member=member, by=current_member(request))
    address = request.build_absolute_uri(reverse("sign-in-link", args=[token]))
    return show_team(request, new_link=address, new_link_member=member)
