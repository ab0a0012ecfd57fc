"""[torch] Trains a base model from nothing, and goes on after a break."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from jobs.base_models.pretraining.batching import batch_of
from jobs.base_models.pretraining.dropout import add_dropout
from jobs.base_models.pretraining.errors import BuildError
from jobs.base_models.pretraining.optimizers import (
    make_optimizers,
    rate_share,
    set_rates,
)
from jobs.base_models.pretraining.rows import Rows
from jobs.base_models.pretraining.stored import read_json
from jobs.base_models.pretraining.teaching import Teachers
from jobs.base_models.pretraining.vocabulary import END_ID
from jobs.trainer.checkpoint import (
    Tensors,
    latest_checkpoint,
    load_optimizer,
    load_weights,
    optimizer_state,
    save_checkpoint,
)
from jobs.trainer.compute.batches import MicroBatch
from jobs.trainer.compute.model import trained_parameters
from jobs.trainer.compute.objective import sums_of
from jobs.trainer.compute.shortcuts import allow_shortcuts
from jobs.trainer.contract.runfolder import Numerics
from jobs.trainer.learning import clip_gradients
from jobs.trainer.numerics import (
    autocast,
    compile_layers,
    fast_dtype,
    has_compiler,
    num_cores,
)

CHECKPOINT_SECONDS = 120.0
CLIP = 1.0
# The sizes that a vocabulary may have: at least all bytes and the end-of-text token,
# and at most what fits into two bytes.
VOCABULARIES = range(257, 2**16 + 1)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a Llama with tied embeddings."""

    vocabulary: int = 4096
    width: int = 320
    layers: int = 4
    heads: int = 5
    feed_forward: int = 896
    context: int = 2048

    def check(self, longest_row: int) -> None:
        """Raises BuildError for a shape that cannot be; `longest_row` is in tokens."""
        if self.width % self.heads or self.width // self.heads % 2:
            raise BuildError(
                f"Width {self.width:,} cannot be shared by {self.heads:,} heads: each "
                "needs the same even number."
            )
        if self.vocabulary not in VOCABULARIES:
            raise BuildError(
                f"A vocabulary has {VOCABULARIES[0]:,} to {VOCABULARIES[-1]:,} tokens, "
                f"not {self.vocabulary:,}."
            )
        if self.context < longest_row:
            raise BuildError(
                f"Rows of {longest_row:,} tokens are learned from, so the context is "
                f"at least that, not {self.context:,}."
            )

    def check_model(self, model_folder: Path) -> None:
        """Raises BuildError unless an earlier build's model has this shape."""
        path = model_folder / "config.json"
        if not path.is_file():
            raise BuildError(f"{model_folder} holds no model (config.json)")
        stored = read_json(path)
        for name, value in self.config().to_dict().items():
            if isinstance(value, int) and stored.get(name, value) != value:
                raise BuildError(
                    f"The model in {model_folder} has {name} {stored[name]}, not "
                    f"{value}. Give the shape that it has."
                )

    def config(self) -> LlamaConfig:
        """Returns the configuration of a model of this shape."""
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            intermediate_size=self.feed_forward,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            bos_token_id=END_ID,
            eos_token_id=END_ID,
            pad_token_id=END_ID,
        )


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How much is learned at which step.

    The rates are the full rates. `warmup` and `decline` are shares of all steps, and
    `dropout` is a share of the outputs of embeddings and of the parts of layers.
    """

    matrix_rate: float = 0.02
    other_rate: float = 4e-3
    decay: float = 0.1
    dropout: float = 0.0
    warmup: float = 0.02
    decline: float = 0.8


def choose_numerics(*, compiled: bool) -> Numerics:
    """Returns how a build is computed on this machine; `compiled` is what was asked."""
    return Numerics(
        threads=num_cores(),
        dtype=fast_dtype(),
        compile=compiled and has_compiler(),
        # It is not used: a whole step goes through the model at once.
        micro_batch=0,
    )


class Pretraining:
    """A build in memory. The same seed gives the same weights on the same machine."""

    def __init__(
        self,
        folder: Path,
        rows: Rows,
        shape: Shape,
        schedule: Schedule,
        *,
        total_steps: int,
        seed: int,
        numerics: Numerics,
        teachers: Teachers | None = None,
    ) -> None:
        """Makes the model; loads the last checkpoint in `folder` if there is one."""
        self.folder = folder
        self.rows = rows
        self.shape = shape
        self.schedule = schedule
        self.total_steps = total_steps
        self.seed = seed
        self.numerics = numerics
        self.teachers = teachers
        torch.set_num_threads(self.numerics.threads)
        torch.manual_seed(seed)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model: Any = LlamaForCausalLM(shape.config()).train()
        allow_shortcuts(self.model)
        add_dropout(self.model, schedule.dropout)
        self.model.to(device)
        if self.numerics.compile:
            compile_layers(self.model)
        if teachers:
            teachers.prepare(device, compiled=self.numerics.compile)
        self.optimizers = make_optimizers(
            self.model,
            matrix_rate=schedule.matrix_rate,
            other_rate=schedule.other_rate,
            decay=schedule.decay,
        )
        self.step = self._resume()

    def start_from(self, model_folder: Path) -> None:
        """Loads the weights of an earlier build. They are in bfloat16, as they ship."""
        load_weights(model_folder / "model.safetensors", self.model)

    def keep(self, model_folder: Path, share: float) -> None:
        """Replaces the weights by a mean of them and those of an earlier model.

        The earlier model's part is `share`. In this way the model forgets less of what
        the texts of this build have little of. Source: Wortsman et al. 2021,
        https://arxiv.org/abs/2109.01903
        """
        weights = trained_parameters(self.model)
        with torch.no_grad():
            learned = {name: weight.clone() for name, weight in weights.items()}
            self.start_from(model_folder)
            for name, weight in weights.items():
                weight.lerp_(learned[name], 1 - share)

    def train(self, each: Callable[[dict[str, float]], None]) -> None:
        """Trains to the last step; `each` is called with the figures of every step."""
        saved = time.monotonic()
        while self.step < self.total_steps:
            each(self._step(self.step + 1))
            self.step += 1
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()

    def _step(self, step: int) -> dict[str, float]:
        began = time.perf_counter()
        # After a break dropout drops the same values.
        torch.manual_seed(self.seed + (step << 32))
        batch = batch_of(self.rows.of_step(step)).to(self.model.device)
        num_tokens = len(batch.learned.tokens)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        with autocast(self.numerics, self.model.device):
            minimised, nll = self._losses_of(batch)
        (minimised / num_tokens).backward()
        norm = clip_gradients(self.model, CLIP)
        if not math.isfinite(norm):
            raise BuildError(
                f"Step {step:,} came to no number. The rates are too high, it seems: "
                "give lower ones and another folder."
            )
        share = rate_share(
            step,
            self.total_steps,
            warmup=self.schedule.warmup,
            decline=self.schedule.decline,
        )
        set_rates(self.optimizers.values(), share)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return {
            "step": step,
            "loss": round(float(nll) / num_tokens, 4),
            "grad_norm": round(norm, 3),
            "rate_share": round(share, 4),
            "tokens_per_second": round(num_tokens / (time.perf_counter() - began)),
        }

    def _losses_of(self, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns two sums over a batch's tokens: the loss to minimise, and the nll."""
        if self.teachers:
            return self.teachers.losses_of(self.model, batch)
        sums = sums_of(self.model, batch)
        assert sums is not None  # noqa: S101  every token is learned
        return sums.weighted, sums.plain

    @property
    def num_parameters(self) -> int:
        """The number of the model's parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def export(self, folder: Path) -> None:
        """Writes the model as it ships, in bfloat16."""
        small = LlamaForCausalLM(self.shape.config()).to(torch.bfloat16)
        small.load_state_dict(self.model.state_dict())
        small.save_pretrained(folder)

    # ----- going on after a break

    def save(self) -> None:
        """Writes a checkpoint, unless this step has one."""
        if latest_checkpoint(self.folder) == self.step:
            return
        weights = trained_parameters(self.model)
        states = {
            f"{name}.safetensors": optimizer_state(weights, optimizer)
            for name, optimizer in self.optimizers.items()
        }
        model: Tensors = dict(weights)
        files = {"model.safetensors": model, **states}
        save_checkpoint(self.folder, self.step, files)

    def _resume(self) -> int:
        step = latest_checkpoint(self.folder)
        if step is None:
            return 0
        checkpoint = self.folder / str(step)
        load_weights(checkpoint / "model.safetensors", self.model)
        for name, optimizer in self.optimizers.items():
            weights = trained_parameters(self.model)
            load_optimizer(checkpoint / f"{name}.safetensors", weights, optimizer)
        return step
