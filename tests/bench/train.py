"""Training speed and memory beside TRL's SFTTrainer: same model, texts and seed.

make bench-train

TRL runs "as it comes" (its defaults, and as many texts a step as ours) and at its best:
the fastest of some settings that its documentation recommends, a step at a time in one
pass. Trainers take turns, a block of steps each, so that a busy machine is busy for
all. The first block, in which things are compiled, is left out and told apart.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from jobs.engines.processes import ENVIRONMENT
from jobs.trainer.contract.model_folders import SHIPPED
from jobs.trainer.contract.spec import DataSource, ModelSource, Spec
from jobs.trainer.rows.token_cache import build_token_cache
from jobs.trainer.snapshot import TOKENIZER_FILES
from jobs.trainer.text.encoding import load_encoder
from tests.bench.figures import report
from tests.support.running_site import ROOT

TINY = SHIPPED / "tiny"
SAMPLES = ROOT / "datasets" / "sample_data"
PEER = ROOT / ".bench" / "trl"
PEER_PACKAGES = ("torch==2.13.0", "trl==1.16.0", "transformers==5.23.0")
# Like the jokes' own: so many tokens are read and not learned.
PROMPT_TOKENS = 3
LEARNING_RATE = 1e-4
ROUNDS = 5
JOB_STEPS = 200
GIGA = 1e9


@dataclass(frozen=True, kw_only=True)
class Work:
    """What both train: rows of `max_tokens`, `batch_size` of them a step."""

    name: str
    model: Path
    max_tokens: int
    batch_size: int
    # Texts of the jokes' lengths, or texts that fill a row each.
    full_rows: bool
    # Steps between two turns.
    num_steps: int

    def texts_per_step(self, lengths: np.ndarray) -> int:
        """Returns how many texts fill as many tokens as our rows, a multiple of 8."""
        if self.full_rows:
            return self.batch_size
        tokens = self.batch_size * self.max_tokens / (lengths.mean() - 1)
        return int(tokens) // 8 * 8


class Peer:
    """A trainer in a process of its own, which trains a block when told to."""

    def __init__(self, name: str, argv: Sequence[str], cwd: Path, **environment: str):
        self.name = name
        self.rates: list[float] = []
        self.peak_bytes = 0
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as it)
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def block(self) -> dict[str, float]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith('{"tokens"'):
                answer: dict[str, float] = json.loads(line)
                self.peak_bytes = int(answer["bytes"])
                return answer
        self.log.seek(0)
        raise RuntimeError(f"{self.name} ended:\n{self.log.read()[-3000:]}")

    def turn(self) -> None:
        answer = self.block()
        self.rates.append(answer["tokens"] / answer["seconds"])

    @property
    def rate(self) -> float:
        """Tokens a second; targets, without padding."""
        return statistics.median(self.rates)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


# ----- the same work for both


def write_model(folder: Path, **shape: Any) -> Path:
    """Writes a Llama of random weights with tiny's tokenizer, which is never used."""
    torch.manual_seed(1)
    end = load_encoder(TINY).end_id
    config = LlamaConfig(**shape, bos_token_id=end, eos_token_id=end, pad_token_id=end)
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (TINY / name).is_file() and name != "generation_config.json":
            shutil.copyfile(TINY / name, folder / name)
    return folder


def m125(folder: Path) -> Path:
    return write_model(
        folder,
        vocab_size=32_000,
        hidden_size=768,
        intermediate_size=2_560,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
        tie_word_embeddings=True,
    )


def draw_lengths(work: Work, folder: Path, num_texts: int) -> np.ndarray:
    """Returns the number of tokens of each text, the end token included."""
    if work.full_rows:
        return np.full(num_texts, work.max_tokens + 1)
    jokes = build_token_cache(SAMPLES / "jokes.jsonl", TINY, folder / "jokes" / "x")
    return np.random.default_rng(1).choice(jokes.lengths, num_texts).astype(np.int64)


def write_data(work: Work, folder: Path) -> np.ndarray:
    """Writes the same random texts as TRL's rows and as a token cache of ours."""
    config = json.loads((work.model / "config.json").read_bytes())
    lengths = draw_lengths(work, folder, 2_000 if work.full_rows else 30_000)
    ids = np.random.default_rng(2).integers(1, config["vocab_size"], lengths.sum())
    texts = np.split(ids, np.cumsum(lengths)[:-1])
    with (folder / "texts.jsonl").open("w") as file:
        for text in texts:
            learned = [-100] * PROMPT_TOKENS + text[PROMPT_TOKENS:].tolist()
            line = {"input_ids": text.tolist(), "labels": learned}
            file.write(json.dumps(line) + "\n")
    weights = np.ones(len(ids), dtype=np.float32)
    starts = np.cumsum(lengths) - lengths
    for token in range(PROMPT_TOKENS):
        weights[starts + token] = 0
    tokens = folder / "tokens"
    tokens.mkdir()
    ids.astype(np.uint32).tofile(tokens / "ids.bin")
    weights.tofile(tokens / "weights.bin")
    lengths.astype(np.uint32).tofile(tokens / "lengths.bin")
    num_targets = int(lengths.sum() - len(lengths))
    facts = {
        "examples": len(lengths),
        "targets": num_targets,
        "learned_targets": num_targets - (PROMPT_TOKENS - 1) * len(lengths),
        "unlearned_examples": 0,
    }
    (tokens / "facts.json").write_text(json.dumps(facts))
    return lengths


def data_source(folder: Path) -> DataSource:
    return DataSource(version="1", sha256="", examples="", tokens=f"{folder}/tokens")


# ----- the two trainers


def ours(work: Work, folder: Path) -> Peer:
    run = folder / "run"
    run.mkdir()
    Spec(
        job="ftjob-bench",
        model=ModelSource(base_model=work.name, path=str(work.model)),
        train=data_source(folder),
        epochs=1_000,
        batch_size=work.batch_size,
        max_tokens=work.max_tokens,
        base_learning_rate=LEARNING_RATE,
        schedule="constant",
        completions_every=0,
        snapshots_every=0,
    ).save(run / "spec.json")
    argv = [sys.executable, "-m", "tests.bench.train_ours", run, work.num_steps]
    cache = str(folder / "compiled")
    environment = ENVIRONMENT | {"TORCHINDUCTOR_CACHE_DIR": cache}
    return Peer("ours", [str(part) for part in argv], ROOT, **environment)


def trl(name: str, work: Work, folder: Path, **settings: Any) -> Peer:
    asked = {
        "model": str(work.model),
        "examples": str(folder / "texts.jsonl"),
        "folder": str(folder / "trl"),
        "num_steps": work.num_steps,
        "max_tokens": work.max_tokens + 1,
        "learning_rate": LEARNING_RATE,
        "settings": settings,
    }
    python = PEER / "bin" / "python"
    script = ROOT / "tests" / "bench" / "train_trl.py"
    # -P: the script's folder is of no use to it.
    argv = [str(python), "-P", str(script), json.dumps(asked)]
    return Peer(name, argv, folder, HF_HUB_OFFLINE="1", PYTHONPATH="")


def trl_as_it_comes(work: Work, folder: Path, num_texts: int) -> Peer:
    """Starts TRL with 8 texts at a time, as many times as fill a step."""
    at_once = min(8, num_texts)
    return trl(
        "TRL as it comes",
        work,
        folder,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=num_texts // at_once,
    )


def best_settings(work: Work, num_texts: int) -> dict[str, dict[str, Any]]:
    padded = {"per_device_train_batch_size": num_texts, "gradient_checkpointing": False}
    packed = {
        "per_device_train_batch_size": work.batch_size,
        "gradient_checkpointing": False,
        "packing": True,
    }
    if work.full_rows:
        return {"bf16": padded}
    settings = {"padded bf16": padded, "packed bf16": packed}
    if work.name == "tiny":
        # Of larger models bfloat16 is always the faster one.
        settings["padded fp32"] = {**padded, "bf16": False}
        settings["packed fp32"] = {**packed, "bf16": False}
    return settings


def trl_at_its_best(work: Work, folder: Path, num_texts: int) -> Peer:
    """Starts TRL with the fastest of some settings, each of which is tried for two
    turns after a first one.
    """
    settings = best_settings(work, num_texts)
    rates = {}
    for name in settings if len(settings) > 1 else ():
        peer = trl(name, work, folder, **settings[name])
        peer.block()
        peer.turn()
        peer.turn()
        peer.end()
        rates[name] = max(peer.rates)
        print(f"  TRL {name}: {rates[name]:,.0f} tokens/s", flush=True)
    best = max(rates, key=lambda name: rates[name]) if rates else next(iter(settings))
    return trl(f"TRL {best}", work, folder, **settings[best])


# ----- measuring


def matmul_ceiling() -> float:
    """Returns the operations a second of large bfloat16 products, in 1e9."""
    size = 2048
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(size, size, dtype=torch.bfloat16, device=device)
    began = time.perf_counter()
    for _ in range(5):
        torch.mm(a, a)
    if device == "cuda":
        torch.cuda.synchronize()
    return 5 * 2 * size**3 / (time.perf_counter() - began) / GIGA


def operations_per_token(work: Work) -> float:
    """Counts forward and backward: 6 a weight, and causal attention over full rows."""
    config = json.loads((work.model / "config.json").read_bytes())
    shapes = LlamaForCausalLM(LlamaConfig(**config)).num_parameters()
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    attention = 6 * layers * width * work.max_tokens if work.full_rows else 0
    return 6 * shapes + attention


def measure(work: Work, root: Path) -> dict[str, Any]:
    folder = root / f"{work.name}-{work.max_tokens}"
    folder.mkdir()
    num_texts = work.texts_per_step(write_data(work, folder))
    print(
        f"{work.name}, rows of {work.max_tokens}, {num_texts} texts a step", flush=True
    )
    best = trl_at_its_best(work, folder, num_texts)
    peers = [ours(work, folder), trl_as_it_comes(work, folder, num_texts), best]
    try:
        first = {peer.name: peer.block()["seconds"] for peer in peers}
        ceilings = []
        for _ in range(ROUNDS):
            ceilings.append(matmul_ceiling())
            for peer in peers:
                peer.turn()
    finally:
        for peer in peers:
            peer.end()
    for peer in peers:
        usual = statistics.median(peer.rates)
        print(
            f"  {peer.name}: {usual:,.0f} tokens/s, {peer.peak_bytes / GIGA:.2f} GB, "
            f"first block {first[peer.name]:.1f} s",
            flush=True,
        )
    speed, default, top = (peer.rate for peer in peers)
    ceiling = statistics.median(ceilings)
    return {
        "vs_trl_default": speed / default,
        "vs_trl_best": speed / top,
        "tokens_per_second": speed,
        "ceiling_share": 100 * speed * operations_per_token(work) / GIGA / ceiling,
        "memory_vs_trl": peers[0].peak_bytes / best.peak_bytes,
        "first_block": first["ours"],
    }


def whole_job(root: Path) -> float:
    """Returns the seconds of a job of 200 steps from process start to the end, with
    validation, completions and snapshots, as a share of TRL's for the bare steps.
    """
    work = Work(
        name="tiny",
        model=TINY,
        max_tokens=256,
        batch_size=8,
        full_rows=False,
        num_steps=JOB_STEPS,
    )
    folder = root / "job"
    folder.mkdir()
    num_texts = work.texts_per_step(write_data(work, folder))
    padded = best_settings(work, num_texts)["padded bf16"]
    began = time.perf_counter()
    peer = trl("TRL", work, folder, **padded)
    peer.block()
    seconds = time.perf_counter() - began
    peer.end()
    return our_job(work, folder) / seconds


def our_job(work: Work, folder: Path) -> float:
    run = folder / "run"
    run.mkdir()
    Spec(
        job="ftjob-bench",
        model=ModelSource(base_model="tiny", path=str(TINY)),
        train=data_source(folder),
        validation=data_source(folder),
        prompts=("<joke>",),
        epochs=1_000,
        batch_size=work.batch_size,
        max_tokens=work.max_tokens,
        completions_every=20,
        snapshots_every=100,
    ).save(run / "spec.json")
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.trainer", str(run)],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )
    last = f'"type":"snapshot","step":{JOB_STEPS},'
    while (
        not (run / "events.jsonl").exists()
        or last not in (run / "events.jsonl").read_text()
    ):
        assert process.poll() is None
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    process.kill()
    process.wait()
    return seconds


def install_peer() -> None:
    if (PEER / "bin" / "python").exists():
        return
    print("Installing TRL in a virtual environment of its own.", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(PEER)], check=True)
    pip = [str(PEER / "bin" / "python"), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, PEER_PACKAGES[0]], check=True)
    subprocess.run([*pip, *PEER_PACKAGES], check=True)


def main() -> None:
    install_peer()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        large = m125(root / "m125")
        joke_rows = {"max_tokens": 256, "batch_size": 8, "full_rows": False}
        full_rows = {"max_tokens": 1024, "batch_size": 2, "full_rows": True}
        m = measure(Work(name="m125", model=large, num_steps=1, **joke_rows), root)
        report("m125_vs_trl_default", m["vs_trl_default"], "times")
        report("m125_vs_trl_best", m["vs_trl_best"], "times")
        report("m125_memory_vs_trl", m["memory_vs_trl"], "times")
        report("m125_tokens_per_second", m["tokens_per_second"], "tokens/s")
        report("m125_first_block", m["first_block"], "s")
        tiny = measure(Work(name="tiny", model=TINY, num_steps=8, **joke_rows), root)
        report("tiny_vs_trl_default", tiny["vs_trl_default"], "times")
        report("tiny_vs_trl_best", tiny["vs_trl_best"], "times")
        report("tiny_tokens_per_second", tiny["tokens_per_second"], "tokens/s")
        rows = measure(Work(name="m125", model=large, num_steps=1, **full_rows), root)
        report("m125_ceiling_share", rows["ceiling_share"], "%")
        report("m125_full_rows_vs_trl_best", rows["vs_trl_best"], "times")
        report("tiny_200_step_job_vs_trl", whole_job(root), "times its seconds")


if __name__ == "__main__":
    main()
