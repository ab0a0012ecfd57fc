"""The pages of jobs: the list, the new job, the live page, and its buttons."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.http import (
    require_http_methods,
    require_POST,
    require_safe,
)

from finetune_site.common.errors import UserError
from finetune_site.common.parsing import small_int
from finetune_site.team.access import current_member, member_required
from finetune_site.team.one_deed import one_deed
from jobs.engines.registry import engine_title
from jobs.live.page import first_load, render_parts
from jobs.models import Job
from jobs.new_job.creation import create_job
from jobs.new_job.defaults import describe, from_link, resolve, suggest
from jobs.new_job.form import JobForm
from jobs.new_job.plan import PlanView, read_plan
from jobs.pages.jobs import read_page
from jobs.services import jobs as services
from jobs.services.counting import start_counting

MAX_COUNTED_PROMPTS = 1000


@require_safe
def jobs(request: HttpRequest) -> HttpResponse:
    """Lists the jobs. With `?part=live` it is the table alone, for refresh.js."""
    context = read_page(request.GET.get("page", "1"))
    template = (
        "jobs/_list.html" if request.GET.get("part") == "live" else "jobs/list.html"
    )
    return render(request, template, context)


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
@one_deed
def job_new(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return _form_page(request, JobForm(initial=from_link(request.GET)))
    form = JobForm(request.POST)
    if form.is_valid():
        try:
            job = create_job(form.asked_for(), member=current_member(request))
        except UserError as error:
            form.add_user_error(error)
        else:
            return redirect("job", job.pk)
    return _form_page(request, form)


def _form_page(request: HttpRequest, form: JobForm) -> HttpResponse:
    values = form.cleaned_data if form.is_bound else resolve(form.initial)
    context = {"form": form, "view": _plan_of(values)}
    status = HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK
    return render(request, "jobs/new.html", context, status=status)


def _plan_of(values: dict[str, Any]) -> PlanView:
    """Returns the plan, or that it is being counted for: then the form asks again."""
    view = read_plan(values)
    if view.state == "counting":
        start_counting(values["dataset_version"], values["base_model"])
    return view


@require_safe
@member_required
def job_plan(request: HttpRequest) -> JsonResponse:
    """Returns the plan for the form as it stands.

    With it comes what suits a dataset that was just chosen.
    """
    form = JobForm(request.GET)
    form.is_valid()
    # The prompts would make the address too long, and only their number matters.
    num_prompts = small_int(request.GET.get("num_prompts", "")) or 0
    prompts = [""] * min(num_prompts, MAX_COUNTED_PROMPTS)
    view = _plan_of({**form.cleaned_data, "prompts": prompts})
    answer: dict[str, Any] = {
        "html": render_to_string("jobs/_plan.html", {"view": view}),
        "counting": view.state == "counting",
    }
    if "suggest" in request.GET:
        answer["suggested"] = suggest(form.cleaned_data)
    return JsonResponse(answer)


@require_safe
def job(request: HttpRequest, pk: int) -> HttpResponse:
    context = first_load(
        get_object_or_404(
            Job.objects.select_related("dataset_version__dataset", "created_by"), pk=pk
        ),
        can_work=current_member(request).can_work,
        all_columns=request.GET.get("film") == "all",
    )
    return render(request, "jobs/job.html", {**context, "tab": "live"})


@require_safe
def job_settings(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Job, pk=pk)
    can_work = current_member(request).can_work
    context = {
        "job": found,
        "engine_title": engine_title(found.engine),
        "can_work": can_work,
        "parts": render_parts(found, can_work=can_work),
        "settings": describe(found),
        "left_elsewhere": services.left_elsewhere(found),
        "tab": "settings",
    }
    return render(request, "jobs/settings.html", context)


def _act(
    request: HttpRequest, pk: int, service: Callable[..., Job], done: str
) -> HttpResponse:
    """Does what a button of the live page asks for.

    A script asks for JSON and stays on the page.
    """
    found = get_object_or_404(Job, pk=pk)
    try:
        service(member=current_member(request), job=found)
    except UserError as error:
        level, text = messages.ERROR, error.message
    else:
        level, text = messages.SUCCESS, done
    if request.accepts("text/html"):
        messages.add_message(request, level, text)
        return redirect("job", pk)
    return JsonResponse({"ok": level == messages.SUCCESS, "message": text})


@require_POST
@member_required
def job_stop(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, services.stop_job, "The job is being stopped.")


@require_POST
@member_required
def job_pause(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, services.pause_job, "The job pauses after this step.")


@require_POST
@member_required
def job_resume(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, services.resume_job, "The job goes on.")


@require_POST
@member_required
def job_snapshot(request: HttpRequest, pk: int) -> HttpResponse:
    done = "A snapshot is taken after this step."
    return _act(request, pk, services.request_snapshot, done)


@require_POST
@member_required
def job_delete(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Job, pk=pk)
    there = services.left_elsewhere(found)
    try:
        services.delete_job(member=current_member(request), job=found)
    except UserError as error:
        messages.error(request, error.message)
        return redirect("job", pk)
    done = f"{found} and its snapshots are deleted. {there}".strip()
    messages.success(request, done)
    return redirect(reverse("jobs"))
