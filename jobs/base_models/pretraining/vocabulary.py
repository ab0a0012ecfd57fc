"""Makes the tokenizer of a new base model: byte-level BPE, so any text round-trips."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from jobs.base_models.pretraining.texts import SEPARATOR
from jobs.trainer.contract.runfolder import write_json

END_ID = 0


def train_tokenizer(documents: Iterable[str], size: int) -> Tokenizer:
    """Returns a tokenizer of `size` tokens, made from the documents.

    The end-of-text token is number 0, and the 256 bytes come next.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Writes a tokenizer into a model folder; `context` is in tokens."""
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "backend": "tokenizers",
            "bos_token": SEPARATOR,
            "eos_token": SEPARATOR,
            "pad_token": SEPARATOR,
            "model_max_length": context,
            "tokenizer_class": "TokenizersBackend",
        },
    )
