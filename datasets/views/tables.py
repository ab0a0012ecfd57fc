"""The page on which the columns of a table become segments."""

from http import HTTPStatus

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from datasets import services
from datasets.models import DatasetVersion
from datasets.pages.columns import columns_page, mapping_of
from datasets.views.pages import dataset_context, dataset_url, get_version
from finetune_site.common.errors import UserError
from finetune_site.team.access import current_member, member_required

REFUSED = HTTPStatus.UNPROCESSABLE_ENTITY


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def dataset_columns(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Shows the guess, draws what was chosen, or has the table imported."""
    version = get_version(pk, number)
    if version.status != DatasetVersion.Status.COLUMNS:
        # Perhaps the button was pressed twice.
        return redirect(dataset_url(pk))
    sent = request.POST if request.method == "POST" else None
    status = HTTPStatus.OK
    try:
        if sent and "import" in sent:
            services.choose_columns(
                member=current_member(request),
                version=version,
                mapping=mapping_of(sent),
            )
            return redirect(dataset_url(pk))
    except UserError as error:
        messages.error(request, error.message)
        status = REFUSED
    try:
        context = columns_page(version, sent)
    except UserError as error:
        messages.error(request, error.message)
        return redirect(dataset_url(pk))
    page = "datasets/columns/_drawn.html" if sent and "draw" in sent else COLUMNS
    context |= {**dataset_context(version.dataset), "version": version}
    return render(request, page, context, status=status)


COLUMNS = "datasets/columns/page.html"
