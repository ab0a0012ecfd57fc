"""A person at a running site, by plain requests: signs in, fills forms, reads pages."""

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import requests

from jobs.trainer.contract.settings import SETTINGS
from tests.support.paths import SAMPLES
from tests.support.running_site import RunningSite

JOKES = SAMPLES / "jokes.jsonl"


class Visitor:
    def __init__(self, site: RunningSite) -> None:
        self.site = site
        self.session = requests.Session()
        link = site.manage("sign_in_link", "admin").removeprefix("Sign in: ")
        self.post(link.removeprefix(site.url), {})

    def get(self, path: str) -> str:
        response = self.session.get(self.site.url + path, timeout=30)
        response.raise_for_status()
        return response.text

    def post(
        self, path: str, data: dict[str, Any], files: dict[str, Any] | None = None
    ) -> str:
        """Sends the form of that page. Returns the path one ends up at."""
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', self.get(path))
        response = self.session.post(
            self.site.url + path,
            {**data, "csrfmiddlewaretoken": token and token[1]},
            files=files,
            timeout=60,
        )
        response.raise_for_status()
        return response.url.removeprefix(self.site.url)

    def upload(self, path: Path, name: str) -> int:
        """Uploads a dataset file. Returns the dataset's id."""
        form = {"name": name, "text_split": "paragraphs"}
        with path.open("rb") as file:
            url = self.post("/datasets/new/", form, {"file": file})
        return int(re.findall(r"/datasets/(\d+)/", url)[0])

    def start_job(self, **settings: Any) -> int:
        """Starts a job by the form's defaults and these settings. Returns its id."""
        url = self.post("/jobs/new/", {**JOB, **settings})
        return int(re.findall(r"/jobs/(\d+)/", url)[0])

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Returns rows of the site's own database."""
        database = f"file:{self.site.data_dir / 'db.sqlite3'}?mode=ro"
        with sqlite3.connect(database, uri=True, timeout=20) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(query, values).fetchall()

    def job(self, job_id: int) -> sqlite3.Row:
        return self.rows("SELECT * FROM jobs_job WHERE id = ?", job_id)[0]

    def events(self, job_id: int, type_: str) -> list[dict[str, Any]]:
        rows = self.rows(
            "SELECT step, data FROM jobs_event WHERE job_id = ? AND type = ?"
            " ORDER BY seq",
            job_id,
            type_,
        )
        return [{**json.loads(row["data"]), "step": row["step"]} for row in rows]


def write_short_jokes(folder: Path) -> Path:
    """Writes a file of 60 examples: with 64 max tokens some 28 short steps an epoch."""
    lines = JOKES.read_bytes().splitlines(keepends=True)[:60]
    path = folder / "jokes.jsonl"
    path.write_bytes(b"".join(lines))
    return path


JOB = {
    **{name: setting.default for name, setting in SETTINGS.items()},
    "name": "",
    "base_model": "tiny",
    "engine": "local",
    "epochs": 3,
    "batch_size": 1,
    "max_tokens": 256,
    "completions_every": 10,
    "num_completions": 1,
    "snapshots_every": 20,
}
