"""Addresses of jobs, snapshots, base models, engines and webhooks."""

from django.urls import path

from jobs.views import (
    api_docs,
    engines,
    jobs,
    live,
    models,
    playground,
    snapshots,
    webhooks,
)

urlpatterns = [
    path("jobs/", jobs.jobs, name="jobs"),
    path("jobs/new/", jobs.job_new, name="job-new"),
    path("jobs/plan.json", jobs.job_plan, name="job-plan"),
    path("jobs/<int:pk>/", jobs.job, name="job"),
    path("jobs/<int:pk>/settings/", jobs.job_settings, name="job-settings"),
    path("jobs/<int:pk>/figure.json", live.job_figure, name="job-figure"),
    path("jobs/<int:pk>/live", live.job_live, name="job-live"),
    path("jobs/<int:pk>/parts.json", live.job_parts, name="job-parts"),
    path("jobs/<int:pk>/stop/", jobs.job_stop, name="job-stop"),
    path("jobs/<int:pk>/pause/", jobs.job_pause, name="job-pause"),
    path("jobs/<int:pk>/resume/", jobs.job_resume, name="job-resume"),
    path("jobs/<int:pk>/snapshot/", jobs.job_snapshot, name="job-snapshot"),
    path("jobs/<int:pk>/delete/", jobs.job_delete, name="job-delete"),
    path("snapshots/", snapshots.snapshots, name="snapshots"),
    path(
        "snapshots/<int:pk>/delete/", snapshots.snapshot_delete, name="snapshot-delete"
    ),
    path("playground/", playground.playground, name="playground"),
    path(
        "playground/answer/",
        playground.playground_answer,
        name="playground-answer",
    ),
    path("models/", models.models, name="models"),
    path("models/add/", models.model_add, name="model-add"),
    path("models/<str:name>/download/", models.model_download, name="model-download"),
    path("models/<str:name>/cancel/", models.model_cancel, name="model-cancel"),
    path("models/<str:name>/remove/", models.model_remove, name="model-remove"),
    path("docs/api", api_docs.api_docs, name="api-docs"),
    path("team/webhooks/", webhooks.team_webhooks, name="team-webhooks"),
    path("team/webhooks/add/", webhooks.team_webhook_add, name="team-webhook-add"),
    path(
        "team/webhooks/<int:pk>/test/",
        webhooks.team_webhook_test,
        name="team-webhook-test",
    ),
    path(
        "team/webhooks/<int:pk>/remove/",
        webhooks.team_webhook_remove,
        name="team-webhook-remove",
    ),
    path("engines/", engines.engines, name="engines"),
    path("engines/add/", engines.engine_add, name="engine-add"),
    path("engines/<slug:name>/check/", engines.engine_check, name="engine-check"),
    path("engines/<slug:name>/key/", engines.engine_key, name="engine-key"),
    path("engines/<slug:name>/remove/", engines.engine_remove, name="engine-remove"),
]
