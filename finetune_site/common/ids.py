"""Makes ids that are unique across sites, so that folders and names never collide."""

import secrets
import string

JOB_KIND = "ftjob"
JOB_PREFIX = f"{JOB_KIND}-"
ALPHABET = string.digits + string.ascii_letters


def random_id(kind: str) -> str:
    """Returns an id such as `ftjob-3vQ0aZ...`, with 24 random characters (143 bits)."""
    return f"{kind}-" + "".join(secrets.choice(ALPHABET) for _ in range(24))


def version_uid() -> str:
    return random_id("file")


def job_uid() -> str:
    return random_id(JOB_KIND)
