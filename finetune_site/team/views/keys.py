"""Changes a member's own API keys."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from finetune_site.team import services
from finetune_site.team.access import current_member
from finetune_site.team.forms import KeyForm
from finetune_site.team.models import ApiKey
from finetune_site.team.one_deed import one_deed
from finetune_site.team.views.members import show_team


@require_POST
@never_cache
@one_deed
def team_key_add(request: HttpRequest) -> HttpResponse:
    form = KeyForm(request.POST)
    if not form.is_valid():
        return show_team(request, status=422, key_form=form)
    member = current_member(request)
    key = services.create_api_key(member=member, name=form.cleaned_data["name"])
    return show_team(request, new_key=key)


@require_POST
def team_key_revoke(request: HttpRequest, pk: int) -> HttpResponse:
    member = current_member(request)
    key = get_object_or_404(ApiKey, pk=pk, member=member)
    services.revoke_api_key(key=key, by=member)
    messages.success(request, f"The key {key.prefix}… works no longer.")
    return redirect("team")
