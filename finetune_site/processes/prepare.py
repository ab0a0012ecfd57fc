"""Prepares a data folder before the processes of the site start."""

import fcntl
import hashlib
import os
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from finetune_site.common.errors import UserError


def make_folders(data_dir: Path) -> Path:
    """Makes the data folder and its `run`, which is returned, for this user alone: they
    hold the secret key and everybody's data.
    """
    run_dir = data_dir / "run"
    for folder in (data_dir, run_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            raise UserError(
                f"The folder {folder} cannot be used: {os.strerror(error.errno or 0)}. "
                "Set FINETUNE_DATA_DIR to a folder of this user."
            ) from None
    return run_dir


def remove_broken_uploads(folder: Path) -> None:
    """Deletes the uploads that a killed web process had received only in part."""
    for path in folder.iterdir():
        path.unlink()


def take_site_lock(run_dir: Path) -> int:
    """Takes the lock that allows only one `up` for a data folder, and returns its file
    descriptor. The kernel frees the lock when this process ends in any way.
    """
    descriptor = os.open(run_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode().strip()
        os.close(descriptor)
        raise UserError(
            f"The site of {run_dir.parent} is running already (process {owner}). Stop "
            "it there first, or set FINETUNE_DATA_DIR to another folder."
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def is_migrated() -> bool:
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def migrate() -> None:
    if not is_migrated():
        call_command("migrate", interactive=False, verbosity=0)


def collect_static(run_dir: Path) -> None:
    """Gathers and compresses the static files, unless none of them has changed."""
    stamp = run_dir / "static.stamp"
    wanted = _static_signature()
    manifest = Path(settings.STATIC_ROOT) / "staticfiles.json"
    if manifest.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    stamp.write_text(wanted)


def _static_signature() -> str:
    digest = hashlib.sha256(settings.STORAGES["staticfiles"]["BACKEND"].encode())
    for finder in get_finders():
        for name, storage in finder.list([]):
            path = Path(storage.path(name))
            facts = path.stat()
            digest.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()
