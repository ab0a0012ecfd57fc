"""Walks of OpenAI's clients against a site of its own.

make test-clients
python -m tests.clients FOLDER_OF_VENVS [VERSION ...]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from jobs.services.webhook_message import event_body, new_secret, signed_headers
from tests.support.running_site import ROOT, RunningSite

HERE = Path(__file__).resolve().parent
EXAMPLES = ROOT / "datasets" / "sample_data" / "capitals.jsonl"
MAX_SECONDS = 600


def main(venvs: Path, versions: list[str]) -> int:
    failed = []
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningSite(Path(folder, "d")) as site,
    ):
        key = site.manage("create_api_key", "admin")
        for version in versions or sorted(path.name for path in venvs.iterdir()):
            began = time.monotonic()
            if walk(venvs / version, version, site, key):
                failed.append(version)
            print(f"openai {version}: {time.monotonic() - began:.1f} s", flush=True)
        if failed:
            print(site.output()[-4000:])
    print(f"failed: {', '.join(failed)}" if failed else "All clients walked.")
    return len(failed)


def walk(venv: Path, version: str, site: RunningSite, key: str) -> int:
    """Returns the exit code of the script."""
    script = "walk_legacy.py" if version.startswith("0.") else "walk_current.py"
    url = f"{site.url}/v1"
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "PYTHON"))
    }
    return subprocess.run(
        [venv / "bin" / "python", HERE / script, EXAMPLES],
        env={
            **inherited,
            "OPENAI_API_KEY": key,
            "OPENAI_BASE_URL": url,
            "OPENAI_API_BASE": url,
            "SIGNED_MESSAGE": signed_message(),
        },
        timeout=MAX_SECONDS,
    ).returncode


def signed_message() -> str:
    """Returns the message of a webhook, for the client to check."""
    uid, secret = "evt-walk", new_secret()
    body = event_body(
        uid=uid,
        type_="fine_tuning.job.succeeded",
        at=datetime.now(UTC),
        subject="ftjob-walk",
    )
    headers = dict(signed_headers(secret, uid, body))
    return json.dumps({"secret": secret, "headers": headers, "body": body.decode()})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
