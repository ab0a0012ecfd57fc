"""The page of webhooks: addresses that are told when a job ends. For admins."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from finetune_site.common.errors import UserError
from finetune_site.team.access import admin_required, current_member
from finetune_site.team.one_deed import one_deed
from jobs.models import Webhook
from jobs.pages.webhooks import WebhookForm, list_deliveries, list_webhooks
from jobs.services import webhooks as services


@require_safe
@admin_required
def team_webhooks(request: HttpRequest) -> HttpResponse:
    return show_webhooks(request)


def show_webhooks(
    request: HttpRequest, status: int = 200, **extra: Any
) -> HttpResponse:
    """Shows the page, perhaps with a form that was refused, or with a new secret.

    A secret is shown this once.
    """
    context = {
        "webhooks": list_webhooks(),
        "deliveries": list_deliveries(),
        "form": WebhookForm(),
    }
    return render(request, "webhooks/page.html", context | extra, status=status)


@require_POST
@admin_required
@never_cache
@one_deed
def team_webhook_add(request: HttpRequest) -> HttpResponse:
    form = WebhookForm(request.POST)
    if not form.is_valid():
        return show_webhooks(request, status=422, form=form)
    try:
        webhook, secret = services.add_webhook(
            member=current_member(request), **form.cleaned_data
        )
    except UserError as error:
        form.add_user_error(error)
        return show_webhooks(request, status=422, form=form)
    return show_webhooks(request, new_webhook=webhook, new_secret=secret)


@require_POST
@admin_required
def team_webhook_test(request: HttpRequest, pk: int) -> HttpResponse:
    webhook = get_object_or_404(Webhook, pk=pk)
    try:
        services.try_webhook(member=current_member(request), webhook=webhook)
    except UserError as error:
        messages.error(request, f"{webhook.url} did not take it. {error.message}")
    else:
        messages.success(request, f"{webhook.url} took the test event.")
    return redirect("team-webhooks")


@require_POST
@admin_required
def team_webhook_remove(request: HttpRequest, pk: int) -> HttpResponse:
    webhook = get_object_or_404(Webhook, pk=pk)
    services.remove_webhook(member=current_member(request), webhook=webhook)
    messages.success(request, f"{webhook.url} is told nothing any more.")
    return redirect("team-webhooks")
