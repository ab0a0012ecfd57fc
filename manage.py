#!/usr/bin/env python3
"""Every command of the site: `python manage.py help` lists them."""

import os
import sys

from finetune_site.common import lifeline


def main() -> None:
    lifeline.hold()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "finetune_site.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
