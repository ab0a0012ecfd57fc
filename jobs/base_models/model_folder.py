"""[contract] Checks whether a model folder can be trained from, and reads its facts.

People copy such folders by hand, so messages say what is wrong and how to mend it.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from finetune_site.common.errors import UserError
from jobs.base_models.trials import trial_result
from jobs.trainer.contract.architecture import (
    CONTEXTS,
    HIDDEN_SIZES,
    LAYER_COUNTS,
    is_size,
    named_context,
    text_config,
)
from jobs.trainer.contract.folder_stamp import Stamp, folder_stamp
from jobs.trainer.contract.settings import SETTINGS
from jobs.trainer.contract.weights_file import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    INDEX,
    PICKLE_ENDINGS,
    WEIGHTS,
    num_parameters,
    weight_shapes,
    weights_files,
)
from jobs.trainer.text.encoding import (
    TokenizerError,
    check_reads_back,
    end_of_text_ids,
    is_fault,
    load_encoder,
)

# The ends of the names of architectures that continue a text. Only those are trained.
CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel")
# The sizes that a plan needs, by the names that configurations give them.
SIZES = (HIDDEN_SIZES, LAYER_COUNTS, ("vocab_size",))
# The context of a model that names none, in tokens.
USUAL_CONTEXT = 2048
MAX_CARD_CHARACTERS = 100_000
NOT_STATED = "not stated"

Config = dict[str, Any]


@dataclass(frozen=True)
class FolderFacts:
    """What the files of a model folder say."""

    parameters: int
    # The largest number of tokens in a row.
    context: int
    licence: str
    architecture: str


def read_facts(folder: Path) -> FolderFacts:
    """Reads every file except the numbers of the weights; returns the facts.

    Raises UserError if the folder cannot be trained from.
    """
    _check_kinds(folder)
    _check_adapter(folder)
    config = _read_config(folder)
    check_config(config)
    _check_endings(folder)
    _check_weights(folder)
    _check_layers(folder, config)
    _check_tokenizer(folder)
    return FolderFacts(
        parameters=num_parameters(folder),
        context=named_context(config) or USUAL_CONTEXT,
        licence=_licence(folder),
        architecture=printable(config["architectures"][0]),
    )


def known_facts(folder: Path) -> FolderFacts | UserError:
    """Returns the facts, or the error that says what is wrong.

    The files are read again only when one of them has changed. What a trial of the
    model found is told too.
    """
    stamp = folder_stamp(folder)
    facts = _facts_at(folder, stamp)
    if isinstance(facts, FolderFacts) and (fault := trial_result(folder, stamp)):
        return UserError(fault)
    return facts


def fault_of(folder: Path) -> str:
    """Returns what is wrong with a folder, or "" if it can be trained from."""
    found = known_facts(folder)
    return found.message if isinstance(found, UserError) else ""


def printable(text: str) -> str:
    """Returns a text that a page can show. File names may hold bytes outside UTF-8."""
    return text.encode(errors="replace").decode()


def check_config(config: Config) -> None:
    """Raises UserError for a model that cannot be trained, or would run own code."""
    if "auto_map" in config:
        raise UserError(
            "Its config.json asks to run code of its own (auto_map), and such models "
            "are not loaded. Choose one that transformers knows."
        )
    if "quantization_config" in config:
        raise UserError(
            "Its weights are quantised, and those cannot be trained. Choose the model "
            "that it was made from."
        )
    names = config.get("architectures") or ["none"]
    if not str(names[0]).endswith(CAUSAL_ENDINGS):
        raise UserError(
            f"Its architecture ({names[0]}) does not continue text, so it cannot be "
            "trained here. Choose a causal language model."
        )
    sizes = text_config(config)
    for known_as in SIZES:
        if not any(is_size(sizes.get(name)) for name in known_as):
            raise UserError(
                f"Its config.json does not say {known_as[0]}. Choose another model."
            )
    for name in CONTEXTS:
        if (context := sizes.get(name)) is not None and not is_size(context):
            raise UserError(
                f"{name} in its config.json is {context!r}, which is no number of "
                "tokens. Copy the file again."
            )
    least = SETTINGS["max_tokens"].low
    if (named_context(config) or least) < least:
        raise UserError(
            f"It reads {named_context(config)} tokens at a time, and jobs need rows of "
            f"{least} at least. Choose another model."
        )


@lru_cache(maxsize=256)
def _facts_at(folder: Path, stamp: Stamp) -> FolderFacts | UserError:
    try:
        return read_facts(folder)
    except UserError as error:
        return UserError(printable(error.message))
    except BaseException as error:  # foreign files hold anything; the page must work
        if not is_fault(error):
            raise
        reason = printable(str(error) or type(error).__name__)
        return UserError(
            f"It cannot be used: its files cannot be read ({reason}). Copy them again."
        )


def _read_config(folder: Path) -> Config:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        raise UserError(
            "There is no config.json in it. Copy the model's whole folder, its files "
            "not in a folder further down."
        ) from None
    except ValueError:
        raise UserError("Its config.json is no JSON. Copy the file again.") from None
    if not isinstance(config, dict):
        raise UserError("Its config.json is no JSON object. Copy the file again.")
    return config


def _check_kinds(folder: Path) -> None:
    """Refuses what is no file and no folder: reading a pipe would never end."""
    if not folder.is_dir():
        raise UserError("It is not on this machine.")
    for path in folder.iterdir():
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(
                f"It holds {path.name}, which is a pipe or a device and no file. "
                "Remove it."
            )


def _check_endings(folder: Path) -> None:
    odd = next((p for p in folder.iterdir() if p.suffix in PICKLE_ENDINGS), None)
    if odd:
        raise UserError(
            f"It holds {odd.name}. Only safetensors files are loaded, since others can "
            "run code. Remove that file; without safetensors beside it, convert it."
        )


def _check_adapter(folder: Path) -> None:
    """Refuses a folder with an adapter, which transformers would lay over the model."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return
    if _weights_files(folder):
        raise UserError(
            "It holds a model and an adapter, which would be laid over the model. "
            f"Remove the adapter's files ({ADAPTER_CONFIG}, {ADAPTER_WEIGHTS}); if the "
            "model was not merged with it yet, merge them first."
        )
    raise UserError(
        f"It is an adapter alone ({ADAPTER_CONFIG}), not a model. Merge it into its "
        "base model, and copy the folder of the result."
    )


def _check_weights(folder: Path) -> None:
    files = _weights_files(folder)
    if not files and any(folder.glob("*.safetensors")):
        raise UserError(
            f"{WEIGHTS} is missing. Copy it from where the others came from."
        )
    if not files:
        raise UserError(
            f"There are no safetensors weights in it ({WEIGHTS}). Copy them too; "
            "weights in another format have to be converted."
        )
    if missing := next((path.name for path in files if not path.is_file()), ""):
        raise UserError(
            f"{missing} is missing: {INDEX} names it. Copy it from where the others "
            "came from."
        )
    # Every file is read, because any of them may be cut off.
    if not sum(len(_names_in(path)) for path in files):
        raise UserError("Its weights files are empty. Copy them again.")


def _check_layers(folder: Path, config: Config) -> None:
    """Refuses more layers than there are weights: to build them would never end."""
    counts = [text_config(config).get(name) for name in LAYER_COUNTS]
    layers = next(filter(is_size, counts))
    if layers > (stored := len(weight_shapes(folder))):
        raise UserError(
            f"Its config.json tells of {layers:,} layers, and its weights files hold "
            f"{stored:,} weights. Copy the files of one model."
        )


def _weights_files(folder: Path) -> list[Path]:
    try:
        return weights_files(folder)
    except ValueError as error:
        raise UserError(f"{error}. Copy the file again.") from None


def _names_in(path: Path) -> list[str]:
    """Returns the names of a file's weights, which must fill the file exactly."""
    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys())
    except SafetensorError:
        raise UserError(
            f"{path.name} is no safetensors file, or was cut off. If it is still being "
            "copied, wait; else copy it again."
        ) from None


def _check_tokenizer(folder: Path) -> None:
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            "There is no tokenizer.json in it. Copy it too; a model without one has to "
            "be saved again with a fast tokenizer."
        )
    try:
        end_of_text_ids(folder)
        check_reads_back(load_encoder(folder))
    except TokenizerError as error:
        raise UserError(f"It cannot be trained or asked here. {error}") from None


def _licence(folder: Path) -> str:
    head = _card_head(folder)
    for name in ("license_name", "license"):
        line = rf"^{name}:\s*(?:-\s*)?[\"']?([\w.+-]+)"
        if found := re.search(line, head, re.MULTILINE):
            return found[1]
    return NOT_STATED


def _card_head(folder: Path) -> str:
    """Returns the text between the card's first two lines of dashes, or ""."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as card:
            lines = card.read(MAX_CARD_CHARACTERS).split("\n")
    except OSError:
        return ""
    if lines[0].rstrip() != "---":
        return ""
    end = next((at for at, line in enumerate(lines) if at and line[:3] == "---"), 0)
    return "\n".join(lines[1:end])
