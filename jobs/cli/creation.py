"""Starts a job exactly once, whatever happens to the connection."""

import argparse
import time
import uuid
from typing import Any

from jobs.cli.problems import Away, Exit, Problem
from jobs.cli.server import Answer, Server
from jobs.trainer.contract.settings import SETTINGS

# In the metadata, where a job can be looked for. The remote engine has the same.
CLIENT_JOB_ID = "client_job_id"
ATTEMPTS = 6
MAX_PAUSE_SECONDS = 30


def job_body(
    args: argparse.Namespace, training_file: str, validation_file: str | None
) -> dict[str, Any]:
    """Returns the body that asks for a job, without settings that were not given."""
    method = "lora" if args.lora else "full" if args.full else None
    flagged = [one for one in SETTINGS.values() if one.flags]
    body = {
        "model": args.model,
        "training_file": training_file,
        "validation_file": validation_file,
        "engine": args.engine,
        **{one.api_name: getattr(args, one.name) for one in flagged},
        "prompts": args.prompt,
        "method": method,
    }
    return {name: value for name, value in body.items() if value is not None}


def create_job(server: Server, body: dict[str, Any]) -> Answer:
    """Returns the job. After a lost answer it is looked for before another request."""
    key = f"openai-ft-{uuid.uuid4().hex}"
    body = {**body, "metadata": {CLIENT_JOB_ID: key}}
    for attempt in range(ATTEMPTS):
        try:
            found = find_job(server, key) if attempt else None
            return found or server.post("/fine_tuning/jobs", body, key=key)
        except Away as error:
            time.sleep(min(error.retry_after or 2**attempt, MAX_PAUSE_SECONDS))
    raise Problem(
        "The server did not answer, so it is not known whether the job was made. Look "
        "with: openai-ft list",
        Exit.SERVER,
    )


def find_job(server: Server, key: str) -> Answer | None:
    params = {f"metadata[{CLIENT_JOB_ID}]": key, "limit": 1}
    found = server.get("/fine_tuning/jobs", **params)["data"]
    # A server that does not know the filter answers with any job.
    noted = [(job, job.get("metadata") or {}) for job in found]
    return next((job for job, notes in noted if notes.get(CLIENT_JOB_ID) == key), None)
