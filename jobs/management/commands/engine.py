"""`manage.py engine`: lists and changes the engines from the terminal."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from finetune_site.common.wording import ago
from finetune_site.team.management.base import SiteCommand
from jobs.engines.base import EngineTroubleError
from jobs.engines.registry import LOCAL, engine_title
from jobs.models import EngineSetting
from jobs.services import engines as services

KEY_HELP = "An API key of the other server; - reads it from standard input."


class Command(SiteCommand):
    help = "Add, list, check and remove engines: where jobs run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        add = actions.add_parser("add", help="Add another server, or a further queue.")
        add.add_argument("name")
        add.add_argument("--kind", required=True, choices=EngineSetting.Kind.values)
        add.add_argument("--url", default="", help="The base URL, ending in /v1.")
        add.add_argument("--key", default="", help=KEY_HELP)
        add.add_argument(
            "--allow-private",
            action="store_true",
            help="Its address may be in a private network.",
        )
        actions.add_parser("list", help="List all engines.")
        check = actions.add_parser(
            "check", help="Ask an engine whether it can be used."
        )
        check.add_argument("name")
        key = actions.add_parser("key", help="Give an engine another key.")
        key.add_argument("name")
        key.add_argument("--key", required=True, help=KEY_HELP)
        remove = actions.add_parser("remove", help="Remove an engine.")
        remove.add_argument("name")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        getattr(self, f"do_{action}")(**options)

    def do_add(
        self, *, name: str, kind: str, url: str, key: str, allow_private: bool, **_: Any
    ) -> None:
        services.add_engine(
            member=None,
            name=name,
            kind=kind,
            url=url,
            key=read_key(key),
            allow_private=allow_private,
        )
        self.stdout.write(f"{name} is added.")
        try:
            self.do_check(name=name)
        except EngineTroubleError as error:
            # What is wrong may be mended later, and jobs wait for that.
            self.stdout.write(f"It cannot be used yet. {error.message}")

    def do_list(self, **_: Any) -> None:
        self.stdout.write(f"{LOCAL.name}\tlocal\t{LOCAL.title}")
        for setting in EngineSetting.objects.all():
            where = setting.url or engine_title(setting.name)
            self.stdout.write(
                f"{setting.name}\t{setting.kind}\t{where}\t{state_of(setting)}".strip()
            )

    def do_check(self, *, name: str, **_: Any) -> None:
        self.stdout.write(services.check_engine(name=name))

    def do_key(self, *, name: str, key: str, **_: Any) -> None:
        services.change_key(member=None, name=name, key=read_key(key))
        self.stdout.write(f"The key of {name} is changed.")
        self.do_check(name=name)

    def do_remove(self, *, name: str, **_: Any) -> None:
        self.stdout.write(services.remove_engine(member=None, name=name))


def read_key(key: str) -> str:
    """Returns the key. `-` reads it from standard input.

    A key in the arguments is seen by everybody on the machine.
    """
    if key != "-":
        return key
    line = sys.stdin.readline().strip()
    if not line:
        raise CommandError("There is no key on standard input.")
    return line


def state_of(setting: EngineSetting) -> str:
    """Returns what came of the last talk with an engine, in words."""
    if setting.kind == EngineSetting.Kind.LOCAL:
        return ""
    if setting.trouble:
        return setting.trouble
    if setting.last_answer_at is None:
        return "not asked yet"
    seen = ago(timezone.localtime(setting.last_answer_at)).replace(
        "\N{NO-BREAK SPACE}", " "
    )
    return f"answered {seen}"
