"""TRL's SFTTrainer on given token ids, a block of steps for each line on stdin.

`train.py` runs it in a virtual environment of its own and outside this project, whose
`datasets` package it would take for another. It answers with a JSON line a block.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from datasets import Dataset


class Blocks(TrainerCallback):
    """Waits before each block of steps, and times it."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self.num_tokens = 0
        self.began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.num_steps:
            return
        if state.global_step:
            self.answer()
        if not sys.stdin.readline():
            sys.exit()
        self.num_tokens = 0
        self.began = time.perf_counter()

    def answer(self) -> None:
        seconds = time.perf_counter() - self.began
        answer = {"tokens": self.num_tokens, "seconds": seconds, "bytes": peak_bytes()}
        print(json.dumps(answer), flush=True)


def peak_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def num_targets(example: dict[str, Any]) -> int:
    """Counts all tokens but the first of each text, without the padding."""
    lengths = example.get("seq_lengths") or [len(example["input_ids"])]
    return sum(lengths) - len(lengths)


def main() -> None:
    asked = json.loads(sys.argv[1])
    lines = Path(asked["examples"]).read_text(encoding="utf-8").splitlines()
    blocks = Blocks(asked["num_steps"])
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(asked["model"]),
        args=SFTConfig(
            output_dir=asked["folder"],
            max_steps=1_000_000,
            learning_rate=asked["learning_rate"],
            max_length=asked["max_tokens"],
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=1,
            **asked["settings"],
        ),
        train_dataset=Dataset.from_list([json.loads(line) for line in lines]),
        callbacks=[blocks],
    )
    collate = trainer.data_collator

    def counting(examples: list[dict[str, Any]]) -> dict[str, Any]:
        blocks.num_tokens += sum(map(num_targets, examples))
        return collate(examples)

    trainer.data_collator = counting
    trainer.train()


if __name__ == "__main__":
    main()
