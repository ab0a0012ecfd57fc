"""`openai-ft list`: the newest jobs."""

import argparse
import json
from datetime import datetime

from finetune_site.common.wording import count, loss
from jobs.cli.problems import Exit
from jobs.cli.server import Answer, from_environment
from jobs.cli.text import columns

HEAD = ("JOB", "STATUS", "MODEL", "ENGINE", "STEP", "LOSS", "CREATED", "ASK IT AS")
NONE_YET = "There are no jobs yet. Start one: openai-ft -t FILE"


def list_jobs(args: argparse.Namespace) -> Exit:
    """Prints the jobs as a table or as JSON. Raises Problem."""
    jobs = from_environment().get("/fine_tuning/jobs", limit=args.limit)["data"]
    if args.json:
        print(json.dumps(jobs, indent=2))
    elif jobs:
        print(columns([HEAD, *map(job_row, jobs)]))
    else:
        print(NONE_YET)
    return Exit.OK


def job_row(job: Answer) -> tuple[str, ...]:
    """Returns a job's cells in the order of HEAD."""
    step, total = job.get("step") or 0, job.get("total_steps") or 0
    created = datetime.fromtimestamp(job["created_at"])
    return (
        job["id"],
        job["status"].removesuffix("_files"),
        job["model"],
        job.get("engine") or "",
        f"{count(step)} of {count(total)}" if total else "",
        loss(job.get("train_loss")),
        f"{created:%Y-%m-%d %H:%M}",
        job.get("fine_tuned_model") or job.get("last_snapshot") or "",
    )
