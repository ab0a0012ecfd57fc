"""Finds the weights that a job starts from or a snapshot is served from."""

from pathlib import Path

from jobs.models import Snapshot
from jobs.selectors.base_models import get_base_model, models_dir
from jobs.trainer.contract.settings import FULL
from jobs.trainer.contract.spec import ModelSource
from jobs.trainer.contract.weights_file import weights_files, weights_sha256


def model_source(base_model: str, snapshot: Snapshot | None) -> ModelSource:
    """Returns the folders from which a model is loaded.

    An adapter lies over what its own job started from: the base model, or a snapshot of
    the whole model somewhere up its family.
    """
    if snapshot is None:
        folder = get_base_model(base_model).folder(models_dir())
        return ModelSource(base_model=base_model, path=str(folder))
    if snapshot.method == FULL:
        return ModelSource(base_model=base_model, path=str(snapshot.folder))
    below = model_source(base_model, snapshot.job.parent_snapshot)
    return ModelSource(
        base_model=base_model,
        path=below.path,
        adapter_path=str(snapshot.folder),
        base_sha256=snapshot.base_sha256,
    )


def is_base_replaced(snapshot: Snapshot) -> bool:
    """Returns whether an adapter's base model has other weights than it was trained on.

    The weights are read only if one of their files was changed since, which is rare.
    """
    source = model_source(snapshot.base_model, snapshot)
    if not source.adapter_path or not source.base_sha256:
        return False
    folder, made_at = Path(source.path), snapshot.created_at.timestamp()
    files = [path for path in weights_files(folder) if path.is_file()]
    if all(path.stat().st_ctime < made_at for path in files):
        return False
    return weights_sha256(folder) != source.base_sha256
