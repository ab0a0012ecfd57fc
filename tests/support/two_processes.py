"""Gradients of several processes against a float64 reference, one token at a time.

`python -m tests.support.two_processes RUN_FOLDER` takes the job's first step in every
way and writes `errors.json`: how far losses and gradients are off, relative to the
reference.
"""

import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from threading import Event

import torch

from jobs.trainer.compute.model import trained_parameters
from jobs.trainer.compute.objective import losses_of
from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import RunFolder
from jobs.trainer.contract.spec import Spec
from jobs.trainer.prepare import batches_for, model_to_train
from jobs.trainer.processes.launch import join
from jobs.trainer.processes.ranks import Ranks
from jobs.trainer.processes.sharding import num_learned, part_like, whole
from jobs.trainer.rows.plan import rows_of
from jobs.trainer.run import Trainer


def main() -> None:
    folder = RunFolder(sys.argv[1])
    ranks = join(folder)
    errors = errors_of(folder, ranks)
    if ranks.is_first:
        (folder.path / "errors.json").write_text(json.dumps(errors))


def errors_of(folder: RunFolder, ranks: Ranks) -> dict[str, float]:
    spec = Spec.load(folder.spec)
    shardings = ("never", "always") if ranks.size > 1 else ("never",)
    errors = {}
    expected = {}
    for method, sharding in product(("full", "lora"), shardings):
        if ranks.is_first:
            replace(spec, method=method, sharding=sharding).save(folder.spec)
            folder.numerics.unlink(missing_ok=True)
        ranks.sum(torch.zeros(1))
        trainer = Trainer(folder, EventWriter(Path("/dev/null")), ranks, Event())
        stir_adapter(trainer.learning.model)
        if ranks.is_first and method not in expected:
            expected[method] = reference(trainer)
        for alone, micro_batch in product((False, True), (1, 64)):
            trainer.packing = rows_of(
                trainer.cache, spec.max_tokens, spec.seed, alone=alone
            )
            trainer.numerics = replace(trainer.numerics, micro_batch=micro_batch)
            losses, gradients = one_step(trainer)
            packing = "unpacked" if alone else "packed"
            name = f"{method} {packing} {sharding} sharded, {micro_batch} rows at once"
            if ranks.is_first:
                errors[name] = max(differences(losses, gradients, *expected[method]))
    return errors


def stir_adapter(model) -> None:
    """Fills the second half of a fresh adapter: it is 0, as half of the gradients
    would be.
    """
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in trained_parameters(model).items():
            if "lora_B" in name:
                value = torch.randn(parameter.shape, generator=generator) * 0.05
                parameter.copy_(part_like(parameter, value))


def reference(trainer):
    """Returns loss and gradients by name of all pieces, each alone, in float64."""
    torch.manual_seed(trainer.spec.seed)
    model = model_to_train(trainer.spec)
    stir_adapter(model)
    model.double()
    weighted, count = 0.0, 0
    for row in range(trainer.packing.num_rows):
        for piece in trainer.packing.row(row):
            ids, weights = tokens_of(trainer.cache, *piece)
            logits = model(input_ids=ids[None, :-1]).logits[0]
            nll = -logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]]
            weighted = weighted + (weights * nll).sum()
            count += int((weights > 0).sum())
    (weighted / count).backward()
    gradients = {n: p.grad for n, p in trained_parameters(model).items()}
    return float(weighted.detach() / count), gradients


def tokens_of(cache, example, start, length):
    begin = int(cache.starts[example]) + start
    ids = torch.tensor(cache.ids[begin : begin + length + 1].astype(int))
    weights = torch.tensor(cache.weights[begin + 1 : begin + length + 1])
    return ids, weights.double()


def one_step(trainer):
    """Returns the losses and the gradients by name of a step over all rows, as the
    trainer makes it.
    """
    ranks, rows = trainer.ranks, list(range(trainer.packing.num_rows))
    batches = batches_for(ranks, trainer.numerics, trainer.cache, trainer.packing, rows)
    learned = int(ranks.sum(torch.tensor(num_learned(batches))))
    learning = trainer.learning
    learning.optimizer.zero_grad(set_to_none=True)
    losses = losses_of(learning.add_up(batches, learned), learned)
    weights = trained_parameters(learning.model)
    return losses, {name: whole(weight.grad) for name, weight in weights.items()}


def differences(losses, gradients, expected_loss, expected):
    """Yields differences relative to the expected loss, and to the largest of each
    weight's gradients.
    """
    yield abs(losses.loss - expected_loss) / expected_loss
    for name, gradient in gradients.items():
        error = (gradient.double() - expected[name]).abs().max()
        yield float(error / expected[name].abs().max())


if __name__ == "__main__":
    main()
