"""The web process's application."""

import os

from django.core.asgi import get_asgi_application

from finetune_site.body_limit import limit_bodies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "finetune_site.settings")
application = limit_bodies(get_asgi_application())
