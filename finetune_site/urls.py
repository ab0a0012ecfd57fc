"""The site map."""

from django.urls import include, path

from finetune_site import health, views
from jobs.api import root

handler400 = "finetune_site.error_pages.bad_request"
handler404 = "finetune_site.error_pages.page_not_found"
handler500 = "finetune_site.error_pages.server_error"

urlpatterns = [
    path("", views.home, name="home"),
    path("first-steps/hide/", views.home_steps_hide, name="home-steps-hide"),
    path("help/", views.help_page, name="help"),
    path("help/moving-from-openai/", views.help_moving, name="help-moving"),
    path("healthz", health.healthz, name="healthz"),
    path("", include("finetune_site.team.urls")),
    path("v1", root.unknown_address_view),
    path("v1/", root.urls),
    path("datasets/", include("datasets.urls")),
    path("", include("jobs.urls")),
]
