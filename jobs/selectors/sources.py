"""Finds the weights that a job starts from or a snapshot is served from."""

from jobs.models import Snapshot
from jobs.selectors.base_models import get_base_model, models_dir
from jobs.trainer.contract.settings import FULL
from jobs.trainer.contract.spec import ModelSource


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
