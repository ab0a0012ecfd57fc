"""Reads typed values from the environment. An unreadable value stops the start."""

import os
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured


def env_str(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


def env_list(name: str, default: str = "") -> list[str]:
    """Returns the comma-separated entries, without empty ones."""
    return [part.strip() for part in env_str(name, default).split(",") if part.strip()]


def env_bool(name: str) -> bool:
    """Returns whether a variable says so; False if it is not set."""
    value = os.environ.get(name, "").strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"", "0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name}={value}: say true or false.")


def env_int(name: str, default: int) -> int:
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={value}: say a whole number.") from None


def env_folder(name: str, default: Path) -> Path:
    """Returns the folder, which is made for this user alone if it is missing."""
    folder = Path(os.environ.get(name, "").strip() or default)
    try:
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "its links lead in a circle"
        raise _bad_folder(name, folder, reason) from None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _bad_folder(name, folder, "this user may not write there")
    return folder


def _bad_folder(name: str, folder: Path, reason: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(
        f"The data folder {folder} cannot be used: {reason}. Set {name} to a folder "
        "that this user can make or write to."
    )


def env_database(name: str, default: str) -> dj_database_url.DBConfig:
    """Returns the database's settings. The address may hold a password, so the error
    does not repeat it.
    """
    url = os.environ.get(name, "").strip() or default
    # Under ASGI a kept connection stays with a thread that may never serve again.
    try:
        return dj_database_url.parse(url, conn_max_age=0)
    except ValueError:
        raise ImproperlyConfigured(
            f"{name} is no address of a database. Write "
            "postgres://user:password@host/name, or leave it out to use SQLite."
        ) from None
