"""`manage.py demo`: like `up`, with sample content and a way in at every start."""

from finetune_site.common.errors import UserError
from jobs.management.commands.up import Command as Up
from jobs.management.commands.up import first_admin
from jobs.management.sample_content import create_sample_content


class Command(Up):
    help = "Start the site with sample datasets and a sample job."

    def prepare_content(self) -> None:
        try:
            create_sample_content(first_admin())
        except UserError as error:
            # The site is worth starting even without its samples.
            self.say(f"The sample content is not complete: {error.message}")

    def greet(self, public_url: str, url: str) -> None:
        self.say(f"The site: {url}/  (Ctrl-C stops it.)")
        self.print_sign_in_link(first_admin(), url)
