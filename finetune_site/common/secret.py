"""Keeps the site's secret key, which is made at the first start, in the data folder,
and keeps secrets from processes that need none.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

# Variables of the environment that trainers and model server have no use for.
SECRETS = {
    "DATABASE_URL",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "PGPASSWORD",
    "SECRET_KEY",
}


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment without the site's secrets."""
    return {name: value for name, value in environment.items() if name not in SECRETS}


def read_or_create(path: Path) -> str:
    """Returns the key, or makes one that only this user can read.

    O_EXCL lets one of several processes that start together win; the others read its
    key. The file is complete before it has its name, so nobody reads half of it.
    """
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(50))
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text(encoding="utf-8").strip()
