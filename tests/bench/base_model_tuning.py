"""Fine-tunes of a base model on the sample data, by the real trainer."""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.base_models.catalogue import CATALOGUE
from jobs.engines.processes import ENVIRONMENT, trainer_argv
from jobs.serving.loaded import Loaded, load
from jobs.trainer.answering.answer import Sampling
from jobs.trainer.answering.generation import Completion, complete
from jobs.trainer.contract.events import Event, last_status, read_events
from jobs.trainer.contract.runfolder import RunFolder
from jobs.trainer.contract.spec import DataSource, ModelSource, Spec
from jobs.trainer.rows.token_cache import cache_folder
from jobs.trainer.text.encoding import encode_prompt
from jobs.trainer.text.examples import iter_examples
from tests.support.running_site import ROOT

SAMPLES = ROOT / "datasets" / "sample_data"
NUM_PROMPTS = 3
AT_ONCE = 32
NUM_JOKES = 20
# A hundred messages are few: from seed to seed three more or fewer are right.
INTENTS_SEEDS = range(1, 5)
JOKE_WORDS = range(5, 41)
# A joke ends like a sentence, a quotation or an aside.
JOKE_END = re.compile(r"[.!?][\"'”’)]*$")
UNITS = {
    "capitals_exact": "% of trained questions",
    "capitals_seconds": "s",
    "intents_right": f"% of unseen messages, mean of {len(INTENTS_SEEDS)} seeds",
    "intents_seconds": "s",
    "jokes_learned_loss_fall": "%",
    "jokes_in_form": f"of {NUM_JOKES}",
}


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What the site suggests for a dataset and the model that ships, but for epochs.

    Everything else is as in Spec: completions every 10 steps, snapshots every 20.
    """

    dataset: str
    epochs: int
    max_tokens: int


CAPITALS = Tuning(dataset="capitals", epochs=10, max_tokens=128)
INTENTS = Tuning(dataset="intents", epochs=4, max_tokens=128)
JOKES = Tuning(dataset="jokes", epochs=3, max_tokens=256)


@dataclass(frozen=True)
class Tuned:
    # From the start of the trainer's process to its end.
    seconds: float
    events: list[Event]
    # With the last snapshot's weights.
    loaded: Loaded


def all_results(model: Path, folder: Path) -> dict[str, float]:
    """Returns the results by the names of UNITS."""
    capitals = tune(CAPITALS, model, folder)
    intents = [
        tune(INTENTS, model, folder / f"seed-{seed}", seed=seed)
        for seed in INTENTS_SEEDS
    ]
    intents_right = [
        share_right(tuned.loaded, examples_of("intents-validation"))
        for tuned in intents
    ]
    # The first one is the site's own seed.
    sys.stdout.write(f"  intents right, seed by seed: {intents_right}\n")
    jokes = tune(JOKES, model, folder)
    return {
        "capitals_exact": share_right(capitals.loaded, examples_of("capitals")),
        "capitals_seconds": capitals.seconds,
        "intents_right": statistics.mean(intents_right),
        "intents_seconds": statistics.mean(tuned.seconds for tuned in intents),
        "jokes_learned_loss_fall": loss_fall(jokes.events),
        "jokes_in_form": num_in_form(jokes.loaded),
    }


# ----- training


def tune(tuning: Tuning, model: Path, folder: Path, **settings: Any) -> Tuned:
    run = write_run(tuning, model, folder, **settings)
    began = time.perf_counter()
    subprocess.run(
        trainer_argv(run),
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    seconds = time.perf_counter() - began
    run_folder = RunFolder(run)
    events, _ = read_events(run_folder.events)
    assert last_status(events) == "succeeded"
    last = max(run_folder.snapshots.iterdir(), key=lambda path: int(path.name))
    return Tuned(seconds, events, load(ModelSource(base_model="tiny", path=str(last))))


def write_run(tuning: Tuning, model: Path, folder: Path, **settings: Any) -> Path:
    """Writes a run folder to train in. `settings` replace those of the tuning."""
    run = folder / f"run-{tuning.dataset}"
    run.mkdir(parents=True)
    suggested: dict[str, Any] = {
        "epochs": tuning.epochs,
        "max_tokens": tuning.max_tokens,
        "base_learning_rate": CATALOGUE["tiny"].full_learning_rate,
        "prompts": watched_prompts(tuning.dataset),
    }
    Spec(
        job=f"ftjob-{tuning.dataset}",
        model=ModelSource(base_model="tiny", path=str(model)),
        train=data_source(tuning.dataset, model, folder),
        validation=data_source(f"{tuning.dataset}-validation", model, folder),
        **suggested | settings,
    ).save(run / "spec.json")
    return run


def data_source(name: str, model: Path, folder: Path) -> DataSource:
    tokens = cache_folder(folder / name, model)
    return DataSource(
        version=name, sha256="", examples=str(examples_of(name)), tokens=str(tokens)
    )


def watched_prompts(dataset: str) -> tuple[str, ...]:
    """Returns the beginnings of some examples, as the site does if nobody gives any."""
    examples = iter_examples(examples_of(f"{dataset}-validation"))
    prompts = dict.fromkeys(example[0][0] for example in examples)
    return tuple(islice(prompts, NUM_PROMPTS))


def examples_of(name: str) -> Path:
    return SAMPLES / f"{name}.jsonl"


# ----- what was learned


def share_right(loaded: Loaded, examples: Path) -> float:
    """Returns the percent of examples whose end is exactly the likeliest answer."""
    pairs = [(question, end) for (question, _), (end, _) in iter_examples(examples)]
    sampling = Sampling(temperature=0, max_tokens=24)
    answers = answer_all(loaded, [question for question, _ in pairs], sampling)
    right = sum(
        answer.text == end for answer, (_, end) in zip(answers, pairs, strict=True)
    )
    return 100 * right / len(pairs)


def loss_fall(events: Sequence[Event]) -> float:
    """Returns by how many percent the loss falls from the first step to the mean of the
    last of three epochs.
    """
    losses = [event["learned_loss"] for event in events if event["type"] == "step"]
    last_epoch = losses[-len(losses) // 3 :]
    return 100 * (1 - statistics.mean(last_epoch) / losses[0])


def num_in_form(loaded: Loaded) -> int:
    sampling = Sampling(temperature=0.7, max_tokens=64, seed=1)
    jokes = answer_all(loaded, ["<joke>"] * NUM_JOKES, sampling)
    for joke in jokes:
        mark = "   " if has_form(joke) else "not"
        sys.stdout.write(f"  {mark} in form:{joke.text!r}\n")
    return sum(map(has_form, jokes))


def has_form(joke: Completion) -> bool:
    """Returns whether it is one paragraph of a joke's length that ends by itself, with
    a sentence's end.
    """
    text = joke.text.strip()
    return (
        joke.finish_reason == "stop"
        and "\n" not in text
        and len(text.split()) in JOKE_WORDS
        and bool(JOKE_END.search(text))
    )


def answer_all(
    loaded: Loaded, prompts: Sequence[str], sampling: Sampling
) -> list[Completion]:
    answers: list[Completion] = []
    for first in range(0, len(prompts), AT_ONCE):
        ids = [
            encode_prompt(loaded.encoder, text)
            for text in prompts[first : first + AT_ONCE]
        ]
        answers += complete(
            loaded.model, loaded.tokenizer, ids, sampling, loaded.end_id
        )
    return answers
