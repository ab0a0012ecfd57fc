"""[torch] Ends a build: writes a model folder that can be used, with its card."""

import argparse
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from jobs.base_models.pretraining.card import (
    SAMPLING,
    STORY_PROMPTS,
    Facts,
    Learned,
    card,
)
from jobs.base_models.pretraining.folder import BuildFolder
from jobs.base_models.pretraining.history import Build, write_history
from jobs.base_models.pretraining.material import Material
from jobs.base_models.pretraining.measuring import bits_per_byte, long_context
from jobs.base_models.pretraining.options import command
from jobs.base_models.pretraining.training import Pretraining
from jobs.base_models.pretraining.vocabulary import END_ID, save_tokenizer
from jobs.trainer.answering.generation import Completion, complete
from jobs.trainer.compute.model import load_model
from jobs.trainer.contract.runfolder import complete_folder, remove_drafts
from jobs.trainer.contract.spec import ModelSource
from jobs.trainer.text.encoding import TextEncoder, encode_prompt

# The card tells the mean loss of so many last steps.
LAST_STEPS = 100


def finish(
    folder: BuildFolder,
    material: Material,
    training: Pretraining,
    options: argparse.Namespace,
) -> Facts:
    """Writes the finished model into its folder; returns what its card tells."""
    if options.kept:
        training.keep(Path(options.start_from), options.kept)
    remove_drafts(folder.path, folder.model.name)
    with complete_folder(folder.model) as draft:
        training.export(draft)
        save_tokenizer(material.tokenizer, draft, options.context)
        builds = folder.history() + [_build(folder, material, training, options)]
        write_history(draft, builds)
        facts = _facts(draft, builds, material, training)
        (draft / "MODEL_CARD.md").write_text(card(facts), encoding="utf-8")
        # An earlier end of the same build may have left a model.
        shutil.rmtree(folder.model, ignore_errors=True)
    return facts


def _build(
    folder: BuildFolder,
    material: Material,
    training: Pretraining,
    options: argparse.Namespace,
) -> Build:
    num_tokens = training.total_steps * options.tokens_per_step
    a_round = sum(one.num_tokens * one.passes for one in material.encoded)
    pairs = zip(material.texts.sources, material.encoded, strict=True)
    log = folder.told()
    seconds = sum(options.tokens_per_step / line["tokens_per_second"] for line in log)
    return Build(
        command=command(options, num_tokens),
        texts=material.texts.digest,
        parameters=training.num_parameters,
        tokens=num_tokens,
        steps=training.total_steps,
        minutes=seconds / 60,
        machine=_machine(training),
        last_loss=statistics.mean(line["loss"] for line in log[-LAST_STEPS:]),
        times={text.name: num_tokens * one.passes / a_round for text, one in pairs},
    )


def _facts(
    model_folder: Path,
    builds: Sequence[Build],
    material: Material,
    training: Pretraining,
) -> Facts:
    """Returns the facts of the model as it ships, which is in bfloat16."""
    source = ModelSource(base_model="tiny", path=str(model_folder))
    model = load_model(source).to(training.model.device).eval()
    return Facts(
        parameters=training.num_parameters,
        config=model.config,
        sources=_learned(material, builds),
        builds=builds,
        longest_row=training.rows.longest_used,
        held_out=_measure(model, material),
        samples=_sample(model, material.tokenizer),
    )


def _learned(material: Material, builds: Sequence[Build]) -> list[Learned]:
    return [
        Learned(
            name=source.name,
            num_documents=len(source.documents),
            num_tokens=one.num_tokens,
            times=sum(
                build.times.get(source.name, 0.0)
                for build in builds
                if not build.teaches
            ),
        )
        for source, one in zip(material.texts.sources, material.encoded, strict=True)
    ]


def _machine(training: Pretraining) -> str:
    if training.model.device.type == "cuda":
        return torch.cuda.get_device_name()
    cores = training.numerics.threads
    return f"{cores} core{'s' if cores > 1 else ''} of a CPU"


def _measure(model: Any, material: Material) -> Mapping[str, float]:
    sources, tokenizer = material.texts.held_out, material.tokenizer
    if not sources:
        return {}
    bits = {
        f"bits per byte, {source.name}": bits_per_byte(model, tokenizer, source)
        for source in sources
    }
    context = long_context(model, tokenizer, sources)
    return bits | {
        "loss at positions 128 to 256": context.near,
        "loss at positions 256 to 1,024": context.far,
    }


def _sample(model: Any, tokenizer: Tokenizer) -> list[tuple[str, Completion]]:
    """Returns the first answer to each prompt of the card."""
    encoder = TextEncoder(tokenizer, None, (END_ID,))
    ids = [encode_prompt(encoder, text) for text in STORY_PROMPTS]
    answers = complete(model, tokenizer, ids, SAMPLING, END_ID)
    return list(zip(STORY_PROMPTS, answers, strict=True))
