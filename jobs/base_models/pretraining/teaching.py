"""[torch] Learns from what larger models foresee, in addition to the text itself.

A small model learns a text by heart if it reads it many times. The probabilities of a
teacher say what else could stand at each place. Source: Hinton et al. 2015,
https://arxiv.org/abs/1503.02531
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from jobs.base_models.pretraining.errors import BuildError
from jobs.base_models.pretraining.history import FILE as HISTORY
from jobs.base_models.pretraining.stored import read_json
from jobs.trainer.compute.batches import MicroBatch
from jobs.trainer.compute.model import ModelError, load_model
from jobs.trainer.compute.shortcuts import (
    allow_shortcuts,
    last_hidden,
    output_weight,
)
from jobs.trainer.contract.spec import ModelSource
from jobs.trainer.numerics import compile_layers
from jobs.trainer.text.encoding import load_tokenizer


class Teachers:
    """Models of earlier builds that teach by the mean of their probabilities."""

    def __init__(self, folders: Sequence[Path], share: float) -> None:
        """Loads the teachers; `share` of what is learned comes from them.

        Raises BuildError if a model cannot teach.
        """
        self.share = share
        self.models = [_load(folder) for folder in folders]

    def prepare(self, device: torch.device, *, compiled: bool) -> None:
        """Moves the teachers to the device, and compiles them if asked to."""
        for model in self.models:
            model.to(device)
            if compiled:
                compile_layers(model)

    def losses_of(self, model: nn.Module, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Returns two sums over a batch's tokens: the loss to minimise, and the nll.

        The nll is that of the text alone, in nats, without gradient.
        """
        logits = _logits(model, batch)
        nll, to_teachers = (
            functional.cross_entropy(logits, targets, reduction="sum")
            for targets in (batch.targets.flatten(), self._foreseen(batch))
        )
        return torch.lerp(nll, to_teachers, self.share), nll.detach()

    @torch.no_grad()
    def _foreseen(self, batch: MicroBatch) -> Tensor:
        """Returns the teachers' mean probabilities: [tokens, vocabulary]."""
        each = [_logits(teacher, batch).softmax(dim=-1) for teacher in self.models]
        return torch.stack(each).mean(dim=0) if len(each) > 1 else each[0]


def check_teachers(
    folders: Sequence[Path], tokenizer: Tokenizer, vocabulary: int
) -> None:
    """Raises BuildError if a teacher has other tokens, or if its history is missing."""
    for folder in folders:
        for name in ("config.json", HISTORY):
            if not (folder / name).is_file():
                raise BuildError(
                    f"{folder} holds no model of an earlier build ({name}), as "
                    "OUT/model of that build does."
                )
        if read_json(folder / "config.json").get("vocab_size") != vocabulary:
            raise BuildError(
                f"The teacher in {folder} has another --vocabulary, not {vocabulary:,}."
            )
        if load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
            raise BuildError(
                f"The teacher in {folder} has another tokenizer. Build it from the "
                "same texts, with the same vocabulary."
            )


def _load(folder: Path) -> nn.Module:
    source = ModelSource(base_model=folder.name, path=str(folder))
    try:
        model = load_model(source).requires_grad_(False)
    except ModelError as error:
        raise BuildError(f"The teacher in {folder} cannot be used. {error}") from None
    if not allow_shortcuts(model):
        raise BuildError(f"The model in {folder} is of a kind that cannot teach.")
    return model.eval()


def _logits(model: nn.Module, batch: MicroBatch) -> Tensor:
    """Returns the logits in float32: [tokens, vocabulary]."""
    hidden = last_hidden(model, batch).flatten(0, 1)
    return functional.linear(hidden, output_weight(model)).float()
