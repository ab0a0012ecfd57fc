"""`manage.py up`: starts the whole site with one command."""

import contextlib
import os
import sys
from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as AnyDatabaseError
from django.db import close_old_connections, connections

from finetune_site.common import wording
from finetune_site.common.env import env_int
from finetune_site.common.errors import UserError
from finetune_site.processes import addresses, groups, prepare
from finetune_site.processes.programs import PROGRAMS
from finetune_site.processes.supervisor import Supervisor
from finetune_site.team import services as team
from finetune_site.team.models import Member
from jobs.models import Job
from jobs.services.heartbeats import forget_heartbeats, newest_heartbeats


class Command(BaseCommand):
    help = "Start web, worker, watcher and model server, and keep them alive."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--host",
            default="127.0.0.1",
            help="The address to listen on; 0.0.0.0 for all of this machine.",
        )
        parser.add_argument(
            "--port", type=int, default=env_int("PORT", 8000), help="or PORT; 8000."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._bring_up(options["host"], options["port"])
        except UserError as error:
            raise CommandError(error.message) from None
        except AnyDatabaseError as error:
            raise CommandError(f"The database does not answer: {error}") from None

    def _bring_up(self, host: str, port: int) -> None:
        addresses.check_proxies()
        data_dir = Path(settings.DATA_DIR)
        run_dir = prepare.make_folders(data_dir)
        # The lock is held until this process ends.
        prepare.take_site_lock(run_dir)
        if num_left := groups.kill_recorded(run_dir):
            processes = wording.counted(num_left, "process", "processes")
            self.say(f"Ended {processes} that an earlier start left behind.")
        prepare.remove_broken_uploads(Path(settings.FILE_UPLOAD_TEMP_DIR))
        listener = addresses.listen(host, port)
        prepare.migrate()
        forget_heartbeats()
        prepare.collect_static(run_dir)
        url = addresses.site_url(host, listener.getsockname()[1])
        addresses.remember_url(data_dir, url)
        self.prepare_content()
        supervisor = Supervisor(
            programs=PROGRAMS,
            run_dir=run_dir,
            root=Path(settings.BASE_DIR),
            env=self._environment(host),
            listener=listener,
            heartbeats=read_heartbeats,
            say=self.say,
        )
        self.greet(addresses.known_url(data_dir), url)
        # The connection must not stay open for as long as the site runs.
        connections.close_all()
        supervisor.run()
        self._say_goodbye()

    def prepare_content(self) -> None:
        """Does nothing here; `demo` adds its content."""

    def greet(self, public_url: str, url: str) -> None:
        self.say(f"The site: {public_url}/  (Ctrl-C stops it.)")
        member = admin_to_let_in()
        if member is not None:
            self.print_sign_in_link(member, public_url)

    def print_sign_in_link(self, member: Member, url: str) -> None:
        token = team.create_sign_in_link(member=member)
        self.say(f"Sign in: {url}/sign-in/{token}")

    def _environment(self, host: str) -> dict[str, str]:
        names = [*settings.ALLOWED_HOSTS, *addresses.allowed_hosts(host)]
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"],
            "FINETUNE_DATA_DIR": str(settings.DATA_DIR),
            "ALLOWED_HOSTS": ",".join(dict.fromkeys(names)),
            "PYTHONUNBUFFERED": "1",
        }

    def _say_goodbye(self) -> None:
        num_jobs = 0
        with contextlib.suppress(AnyDatabaseError):
            num_jobs = Job.objects.filter(status__in=Job.LIVE).count()
        if not num_jobs:
            self.say("The site has stopped.")
            return
        jobs, them = f"{num_jobs} jobs go", "them"
        if num_jobs == 1:
            jobs, them = "1 job goes", "it"
        self.say(
            f"The site has stopped; {jobs} on training, and the next start finds "
            f"{them} again. To pause a job, start the site and press Pause on the "
            "job's page."
        )

    def say(self, line: str) -> None:
        """Prints a line. A closed terminal must not end the site."""
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stdout, flush=True)


def read_heartbeats() -> dict[str, datetime] | None:
    """Returns what `newest_heartbeats` does.

    The connection is closed here if it is old, as no request does it.
    """
    close_old_connections()
    return newest_heartbeats()


def admin_to_let_in() -> Member | None:
    """Returns the admin whom the terminal lets in, while none has ever been in."""
    admins = Member.objects.filter(role="admin", is_active=True)
    if admins.filter(last_login__isnull=False).exists():
        return None
    return admins.order_by("pk").first() or first_admin()


def first_admin() -> Member:
    """Returns the member `admin`, who is created if there is none."""
    existing = Member.objects.filter(username="admin").first()
    return existing or team.create_member(username="admin", role="admin")
