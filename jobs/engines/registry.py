"""The engines of this site, by name."""

from finetune_site.errors import UserError
from jobs.engines.base import Engine
from jobs.engines.local import LocalEngine

ENGINES: dict[str, Engine] = {"local": LocalEngine()}


TITLES = {name: engine.title for name, engine in ENGINES.items()}


def get_engine(name: str) -> Engine:
    engine = ENGINES.get(name)
    if engine is None:
        known = ", ".join(ENGINES)
        raise UserError(f"There is no engine {name}; choose {known}.", field="engine")
    return engine
