"""Shows the audit trail."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from finetune_site.team.access import admin_required
from finetune_site.team.selectors import list_audit_entries

ENTRIES_A_PAGE = 50


@require_safe
@admin_required
def team_audit(request: HttpRequest) -> HttpResponse:
    pages = Paginator(list_audit_entries(), ENTRIES_A_PAGE)
    page = pages.get_page(request.GET.get("page"))
    return render(request, "team/audit.html", {"page": page})
