"""The web process's application."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "finetune_site.settings")
django_application = get_asgi_application()

# It imports models, which are ready only now.
from finetune_site.body_limit import limit_bodies  # noqa: E402
from finetune_site.leaving import end_streams_of_leavers  # noqa: E402

application = limit_bodies(end_streams_of_leavers(django_application))
