"""Checks whether jobs can run on another server."""

import re
from contextlib import suppress

from jobs.engines.base import EngineTroubleError
from jobs.engines.far_api import FarApi
from jobs.engines.far_server import FarRefusalError

# A parameter in a path of the OpenAPI document; its name does not matter.
PARAMETER = re.compile(r"\{[^}]*\}")
NEEDED_PATHS = (
    "/files",
    "/completions",
    "/fine_tuning/jobs",
    "/fine_tuning/jobs/{}/events",
    "/fine_tuning/jobs/{}/pause",
    "/fine_tuning/jobs/{}/snapshots",
)


def check_server(far: FarApi) -> None:
    """Raises EngineTroubleError if something keeps jobs from running there."""
    try:
        paths = {PARAMETER.sub("{}", path) for path in far.paths()}
    except FarRefusalError as error:
        raise far.odd(error.status) from None
    known = {path[path.find("/v1/") + 3 :] for path in paths if "/v1/" in path}
    if missing := [path for path in NEEDED_PATHS if path not in known]:
        raise EngineTroubleError(
            f"The engine {far.name} runs an older version of this software: it does "
            f"not know {missing[0]}. Upgrade it."
        )
    far.get("fine_tuning/jobs", {"limit": "1"})
    # The key of a viewer may look but not work. There is no job "none" to pause.
    with suppress(FarRefusalError):
        far.act("none", "pause")
