"""The base model that ships, beside another one if there is one: how well it foresees
text, how fast it is, what becomes of it in fine-tunes, and what it writes.

make bench-base-model [OTHER=folder] [TEXTS=folder]

TEXTS holds the files to measure by, `heldout-*.txt`. Models take turns, so that a busy
machine is busy for both.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jobs.base_models.pretraining.measuring import bits_per_byte, long_context
from jobs.base_models.pretraining.texts import Source, read_held_out
from jobs.engines.processes import ENVIRONMENT
from jobs.serving.loaded import Loaded, load
from jobs.trainer.answering.answer import Sampling
from jobs.trainer.answering.generation import complete
from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.contract.spec import ModelSource
from jobs.trainer.numerics import num_cores
from jobs.trainer.rows.token_cache import open_token_cache
from jobs.trainer.text.encoding import encode_prompt
from jobs.trainer.text.examples import iter_examples
from tests.bench import base_model_tuning, base_model_writing
from tests.bench.figures import report
from tests.bench.train import Peer
from tests.support.running_site import ROOT

# Short turns and many: what else the machine does is then the same for both.
TURNS = 25
ANSWER_TOKENS = 64
STEPS_A_TURN = 4
# Enough for all turns, and too few for compiling to pay: as in jobs people start.
EPOCHS = 20
# No token has it: answers go on until they are long enough.
NEVER = -1


@dataclass(frozen=True)
class Contender:
    name: str
    folder: Path
    loaded: Loaded

    @property
    def model(self) -> Any:
        return self.loaded.model

    @property
    def tokenizer(self) -> Any:
        return self.loaded.tokenizer


@dataclass(frozen=True)
class Bench:
    # Ours first.
    models: Sequence[Contender]
    texts: Path | None
    # For files that nobody keeps.
    root: Path


def tell(
    name: str, values: Sequence[float], unit: str, ratio: float | None = None
) -> None:
    """Reports our number, and as a second figure what it is beside the other's."""
    report(f"base_{name}", values[0], unit)
    if len(values) > 1:
        print(f"  the other: {values[1]:.4g} {unit}", flush=True)
        ratio = values[0] / values[1] if ratio is None else ratio
        report(f"base_{name}_ratio", ratio, "times the other's")


def tell_rates(name: str, rates: Sequence[Sequence[float]], unit: str) -> None:
    """Reports medians over the turns; models are compared within each."""
    ratios = [turn[0] / turn[-1] for turn in zip(*rates, strict=True)]
    values = [statistics.median(of_one) for of_one in rates]
    tell(name, values, unit, statistics.median(ratios))


# ----- what it foresees


def held_out(bench: Bench) -> None:
    sources = read_held_out(bench.texts) if bench.texts else []
    if not sources:
        print("Without TEXTS there is nothing to foresee.", flush=True)
        return
    bits = [
        [bits_per_byte(one.model, one.tokenizer, source) for source in sources]
        for one in bench.models
    ]
    for source, values in zip(sources, zip(*bits, strict=True), strict=True):
        tell(f"bits_per_byte_{source.name.replace('-', '_')}", values, "bits")
    tell("bits_per_byte", [over_all(sources, of_one) for of_one in bits], "bits")
    contexts = [long_context(one.model, one.tokenizer, sources) for one in bench.models]
    tell("loss_at_128_to_256", [context.near for context in contexts], "nats a token")
    tell("loss_at_256_to_1024", [context.far for context in contexts], "nats a token")


def over_all(sources: Sequence[Source], bits: Sequence[float]) -> float:
    """Returns the mean over all bytes, so that a byte counts the same in every file."""
    sizes = [source.num_bytes for source in sources]
    weighted = (size * value for size, value in zip(sizes, bits, strict=True))
    return sum(weighted) / sum(sizes)


# ----- how fast it is


def writing_speed(bench: Bench) -> None:
    """Measures one answer at a time in one thread, as the model server works."""
    torch.set_num_threads(1)
    for one in bench.models:
        characters_and_seconds(one, 0)
    turns = [
        [characters_and_seconds(one, seed) for one in bench.models]
        for seed in range(TURNS)
    ]
    torch.set_num_threads(num_cores())
    answers = list(zip(*turns, strict=True))
    tokens = [[ANSWER_TOKENS / took for _, took in of_one] for of_one in answers]
    tell_rates("writing_tokens_per_second", tokens, "tokens/s")
    characters = [[length / took for length, took in of_one] for of_one in answers]
    tell_rates("writing_characters_per_second", characters, "characters/s")


def characters_and_seconds(one: Contender, seed: int) -> tuple[int, float]:
    """Returns how many characters an answer has, and the seconds that it took."""
    prompt = encode_prompt(one.loaded.encoder, "Once upon a time")
    sampling = Sampling(temperature=0.7, max_tokens=ANSWER_TOKENS, seed=seed)
    began = time.perf_counter()
    answer = complete(one.model, one.tokenizer, [prompt], sampling, NEVER)[0]
    return len(answer.text), time.perf_counter() - began


def training_speed(bench: Bench) -> None:
    """Measures the trainer's steps on the jokes, each model in a process of its own."""
    folders = [bench.root / f"speed-{one.name}" for one in bench.models]
    peers = [start(one, at) for one, at in zip(bench.models, folders, strict=True)]
    try:
        for peer in peers:
            peer.block()
        for _ in range(TURNS):
            for peer in peers:
                peer.turn()
    finally:
        for peer in peers:
            peer.end()
    tokens = [peer.rates for peer in peers]
    tell_rates("training_tokens_per_second", tokens, "tokens/s")
    num_bytes = [bytes_per_token(folder) for folder in folders]
    read = [
        [rate * of_one for rate in rates]
        for rates, of_one in zip(tokens, num_bytes, strict=True)
    ]
    tell_rates("training_bytes_per_second", read, "bytes/s")


def start(one: Contender, folder: Path) -> Peer:
    run = base_model_tuning.write_run(
        base_model_tuning.JOKES, one.folder, folder, epochs=EPOCHS, schedule="constant"
    )
    argv = [sys.executable, "-m", "tests.bench.train_ours", str(run), str(STEPS_A_TURN)]
    return Peer(one.name, argv, ROOT, **ENVIRONMENT)


def bytes_per_token(folder: Path) -> float:
    """Returns how many bytes of the jokes a token has, as counted in the folder."""
    examples = iter_examples(base_model_tuning.examples_of("jokes"))
    num_bytes = sum(len(text.encode()) for example in examples for text, _ in example)
    (facts,) = folder.glob("jokes/tokens/*/facts.json")
    cache = open_token_cache(facts.parent)
    assert cache is not None
    return num_bytes / cache.facts.targets


# ----- what becomes of it, and what it writes


def tuning(bench: Bench) -> None:
    results = [
        base_model_tuning.all_results(one.folder, bench.root / f"tuning-{one.name}")
        for one in bench.models
    ]
    for name, unit in base_model_tuning.UNITS.items():
        report(f"base_{name}", results[0][name], unit)
        for result in results[1:]:
            print(f"  the other: {result[name]:.4g} {unit}", flush=True)


def writing(bench: Bench) -> None:
    """Measures our model alone: nobody else's model ships."""
    for name, number, unit in base_model_writing.results(bench.models[0].loaded):
        report(f"base_{name}", number, unit)


PARTS: dict[str, Callable[[Bench], None]] = {
    "held-out": held_out,
    "writing-speed": writing_speed,
    "training-speed": training_speed,
    "tuning": tuning,
    "writing": writing,
}


def contender(name: str, folder: Path) -> Contender:
    source = ModelSource(base_model="tiny", path=str(folder.resolve()))
    return Contender(name, folder.resolve(), load(source))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, help="folder of a model")
    parser.add_argument("--texts", type=Path, help="folder of heldout-*.txt")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    models = [contender("ours", SHIPPED / "tiny")]
    if options.other:
        models.append(contender("the other", options.other))
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(models, options.texts, Path(root))
        for part in options.parts:
            PARTS[part](bench)


if __name__ == "__main__":
    main()
