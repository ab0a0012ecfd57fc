"""The base models that training can start from."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from jobs.base_models.catalogue import CATALOGUE
from jobs.selectors import models_dir


@require_GET
def models(request: HttpRequest) -> HttpResponse:
    folder = models_dir()
    rows = [(model, model.is_ready(folder)) for model in CATALOGUE.values()]
    return render(request, "models/list.html", {"rows": rows})
