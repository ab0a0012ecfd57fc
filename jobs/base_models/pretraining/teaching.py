"""[torch] Learning from what larger models foresee, beside the text itself.

Texts that are read many times are learned by heart; a teacher's probabilities say what
else could have stood there. https://arxiv.org/abs/1503.02531
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
    """Models of earlier builds; they foresee the mean of their probabilities."""

    def __init__(self, folders: Sequence[Path], share: float) -> None:
        """`share` of what is learned comes from them, the rest from the text."""
        self.share = share
        self.models = [_load(folder) for folder in folders]

    def prepare(self, device: torch.device, *, compiled: bool) -> None:
        for model in self.models:
            model.to(device)
            if compiled:
                compile_layers(model)

    def losses_of(self, model: nn.Module, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Sums over a batch's tokens: what is minimised, and the text's own nll."""
        logits = _logits(model, batch)
        nll, to_teachers = (
            functional.cross_entropy(logits, targets, reduction="sum")
            for targets in (batch.targets.flatten(), self._foreseen(batch))
        )
        return torch.lerp(nll, to_teachers, self.share), nll.detach()

    @torch.no_grad()
    def _foreseen(self, batch: MicroBatch) -> Tensor:
        """(tokens, vocabulary)"""
        each = [_logits(teacher, batch).softmax(dim=-1) for teacher in self.models]
        return torch.stack(each).mean(dim=0) if len(each) > 1 else each[0]


def check_teachers(
    folders: Sequence[Path], tokenizer: Tokenizer, vocabulary: int
) -> None:
    """Whether they read and write the same tokens, and who taught them is known."""
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
    """(tokens, vocabulary), in float32"""
    hidden = last_hidden(model, batch).flatten(0, 1)
    return functional.linear(hidden, output_weight(model)).float()
