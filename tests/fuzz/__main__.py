"""Has schemathesis ask a site of its own whatever its OpenAPI document allows.

make test-api-fuzz                  2,000 requests and more
make test-api-fuzz BUDGET=short     some hundreds, in a minute

It fails when an answer is a 5xx, or one that the document does not have: so each error
has the one shape.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import requests

from tests.support.running_site import ROOT, RunningSite, wait_for

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
    "unsupported_method",
    "allow_header_conformance",
)
# A request may wait for a model, or for tokens to be counted, as long as 120 s.
TIMEOUT_SECONDS = 150
LEARNED = '{"prompt": "The sky is", "completion": " blue"}\n'
# A job on this one ends as soon as it is checked.
UNLEARNED = '{"data": {"text_list": ["The sky"], "loss_weights": [0]}}\n'


class Api:
    def __init__(self, site: RunningSite) -> None:
        self.url = f"{site.url}/v1"
        self.key = site.manage("create_api_key", "admin")
        self.headers = {"Authorization": f"Bearer {self.key}"}

    def ask(self, method: str, path: str, **body: Any) -> Any:
        answer = requests.request(
            method, self.url + path, headers=self.headers, timeout=60, **body
        )
        answer.raise_for_status()
        return answer.json()

    def upload(self, name: str, text: str) -> str:
        files, form = {"file": (name, text)}, {"purpose": "fine-tune"}
        return str(self.ask("POST", "/files", files=files, data=form)["id"])


# Phases, and how many requests each address gets at random.
BUDGETS = {"full": ("coverage,fuzzing", 10), "short": ("fuzzing", 8)}


def main(budget: str) -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningSite(Path(folder, "d")) as site,
    ):
        api = Api(site)
        real = things_to_ask_for(api)
        code = run_schemathesis(api, real, budget, folder)
        if code:
            sys.stdout.write(site.output()[-4000:])
    return code


def things_to_ask_for(api: Api) -> dict[str, list[str]]:
    """Makes files, a job that ends and its snapshot, by the names in requests."""
    learned = api.upload("learned.jsonl", LEARNED * 40)
    unlearned = api.upload("unlearned.jsonl", UNLEARNED * 4)
    body = {"model": "tiny", "training_file": learned, "n_epochs": 1}
    job = api.ask("POST", "/fine_tuning/jobs", json=body)["id"]

    def ended() -> Any:
        shown = api.ask("GET", f"/fine_tuning/jobs/{job}")
        return shown if shown["status"] in ("succeeded", "failed") else None

    made = wait_for(ended, 180, "the end of the first job")
    snapshot = made["last_snapshot"]
    return {
        "file_id": [learned, made["result_files"][0]],
        "training_file": [unlearned],
        "validation_file": [unlearned],
        "job_id": [job],
        "job": [job],
        "model": ["tiny", snapshot, made["fine_tuned_model"]],
        "snapshot": [snapshot],
        "checkpoint": [snapshot],
        "engine": ["local"],
        "prompt": ["The sky is"],
    }


def run_schemathesis(
    api: Api, real: dict[str, list[str]], budget: str, folder: str
) -> int:
    """Runs Schemathesis in the folder, since it leaves files where it runs."""
    phases, max_examples = BUDGETS[budget]
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "run",
        f"{api.url}/openapi.json",
        *("--header", f"Authorization: Bearer {api.key}"),
        *("--checks", ",".join(CHECKS)),
        *("--phases", phases),
        *("--max-examples", str(max_examples)),
        *("--request-timeout", str(TIMEOUT_SECONDS)),
        *("--seed", "1"),
        *("--warnings", "off"),
        "--continue-on-failure",
    ]
    hooks = {
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        "FUZZ_REAL": json.dumps(real),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(command, cwd=folder, env={**os.environ, **hooks}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "full"))
