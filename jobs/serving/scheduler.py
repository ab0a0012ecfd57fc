"""[torch] The one thread that generates, which gives every model a turn."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from jobs.serving.desk import Desk
from jobs.serving.inbox import Asked, Inbox
from jobs.serving.loaded import Key, Loaded, LoadedModels, key_of
from jobs.serving.request import RequestError
from jobs.trainer.answering.answer import Sampling
from jobs.trainer.answering.generation import complete
from jobs.trainer.compute.model import ModelError
from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.contract.spec import ModelSource

logger = logging.getLogger(__name__)

BROKEN = "The model server met an error it did not expect. Its log has the details."
TINY = ModelSource(base_model="tiny", path=str(SHIPPED / "tiny"))


class Scheduler:
    """Loads the models that are asked for, and lets a desk answer for each."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.models = LoadedModels()
        self.desks: dict[Key, Desk] = {}
        # In a thread: a large model takes seconds to load, in which the others go on.
        self.loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self.loading: dict[Key, Future[Loaded]] = {}
        self.waiting: dict[Key, list[Asked]] = {}

    def run(self) -> None:
        """Answers requests until the inbox is closed."""
        # A trainer needs the other cores more. Beside it, several threads that wait for
        # each other would be slower than one.
        torch.set_num_threads(1)
        self._warm()
        while not self.inbox.closed:
            for asked in self.inbox.take(wait=not self.desks):
                self._accept(asked)
            for key in [key for key in self.loading if self.loading[key].done()]:
                self._open_desk(key)
            for key in list(self.desks):
                self._turn(key)
        self.loader.shutdown(wait=False, cancel_futures=True)

    def _warm(self) -> None:
        """Makes a first completion, so that nobody waits for it.

        The first calls of a process take ten times as long as later ones.
        """
        try:
            tiny = self.models.get(TINY)
            sampling = Sampling(max_tokens=4, seed=1)
            complete(tiny.model, tiny.tokenizer, [[1]] * 2, sampling, tiny.end_id)
        except Exception:
            logger.exception("tiny is not ready")

    def _accept(self, asked: Asked) -> None:
        key = key_of(asked.request.model)
        if key in self.desks:
            self._add(key, asked)
            return
        self.waiting.setdefault(key, []).append(asked)
        if key not in self.loading:
            self.loading[key] = self.loader.submit(
                self.models.get, asked.request.model, list(self.desks)
            )
            self.loading[key].add_done_callback(lambda _: self.inbox.wake())

    def _open_desk(self, key: Key) -> None:
        """Opens a desk for a model that was loaded.

        If it cannot be loaded, the requests that wait for it are refused.
        """
        loaded, waiting = self.loading.pop(key), self.waiting.pop(key)
        try:
            self.desks[key] = Desk(loaded.result())
        except ModelError as error:
            _refuse(waiting, str(error), "model")
        except Exception:
            logger.exception("could not load %s", key)
            _refuse(waiting, BROKEN, "internal")
        else:
            for asked in waiting:
                self._add(key, asked)

    def _add(self, key: Key, asked: Asked) -> None:
        try:
            self.desks[key].add(asked)
        except RequestError as error:
            asked.refuse(error.message, error.kind, error.field)
        except Exception:
            logger.exception("could not read the prompt")
            asked.refuse(BROKEN, "internal")

    def _turn(self, key: Key) -> None:
        desk = self.desks[key]
        try:
            desk.turn()
        except Exception:
            # For example out of memory. The other models go on.
            logger.exception("could not answer with %s", key)
            desk.refuse_all(BROKEN)
            del self.desks[key]
            return
        if desk.is_idle:
            del self.desks[key]


def _refuse(waiting: list[Asked], message: str, kind: str) -> None:
    for asked in waiting:
        asked.refuse(message, kind)
