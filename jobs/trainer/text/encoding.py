"""[contract] Turns text into tokens, in one way for trainer, preview and serving."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from jobs.trainer.contract.folder_stamp import Stamp, folder_stamp
from jobs.trainer.contract.runfolder import is_whole
from jobs.trainer.text.examples import Segment

# What names a model's end tokens, the first of them first.
END_FILES = ("generation_config.json", "config.json")
# Texts in segments, each with what some tokenizers lose: the middle of a word, white
# space, or capitals.
PROBES = (
    ("wonder", "ful"),
    ("Total: 4", "2"),
    ("Two  spaces,", "\n\nand Lines."),
    # What compatible normal forms would turn into other letters.
    ("\ufb01ne", " \u00bd \uff21"),
)


@dataclass(frozen=True)
class Encoded:
    """One example as tokens, in three lists of the same length.

    The last token is the end-of-text token, with the loss weight of the last segment.
    The first one is only read, and has weight 0, if `has_context`.
    """

    ids: list[int]
    weights: list[float]
    # For each token the number of its segment, counted from 0.
    segments: list[int]
    has_context: bool


class TokenizerError(ValueError):
    """Says that a model folder's files do not tell how text becomes tokens."""


def is_fault(error: BaseException) -> bool:
    """Returns whether an error is of what was read, and no wish to end the process.

    A library written in Rust that gives up raises what is no `Exception`.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@dataclass(frozen=True)
class TextEncoder:
    """How a model reads text: its tokenizer, and the tokens that frame a text."""

    tokenizer: Tokenizer
    # The token with which the model wants every text to begin, if it wants one.
    begin_id: int | None
    # Each of these ends an answer. The first one ends the examples that are learned.
    end_ids: tuple[int, ...]

    @property
    def end_id(self) -> int:
        """The token that ends an example."""
        return self.end_ids[0]

    @property
    def context_id(self) -> int:
        """The token behind which a text begins."""
        return self.end_id if self.begin_id is None else self.begin_id

    @cached_property
    def inner(self) -> Tokenizer:
        """The tokenizer of a text that stands behind other text.

        Some tokenizers put a space before a text. That belongs to its beginning only,
        not to the border of two segments.
        """
        settings = json.loads(self.tokenizer.to_str())
        changed = settings | {
            "normalizer": _without_prefix(settings["normalizer"]),
            "pre_tokenizer": _without_prefix(settings["pre_tokenizer"]),
        }
        if changed == settings:
            return self.tokenizer
        return _reading_plain_text(Tokenizer.from_str(json.dumps(changed)))

    def has_context(self, first_weight: float) -> bool:
        """Returns whether an example begins behind `context_id`.

        It does if its first token is to be learned, because only what stands behind a
        token can be, and always if the model wants its own token first.
        """
        return self.begin_id is not None or first_weight > 0


def _without_prefix(step: Any) -> Any:
    """Returns a step of a tokenizer, or a list of steps, that puts no space first."""
    if isinstance(step, list):
        kept = [_without_prefix(one) for one in step]
        return [one for one in kept if one is not None]
    if not isinstance(step, dict):
        return step
    if step.get("type") == "Prepend":
        return None
    steps = {name: _without_prefix(value) for name, value in step.items()}
    if "add_prefix_space" in steps:
        steps["add_prefix_space"] = False
    if "prepend_scheme" in steps:
        steps["prepend_scheme"] = "never"
    return steps


def load_encoder(model_folder: Path | str) -> TextEncoder:
    """Returns how a model reads text, by its folder's files. Raises TokenizerError."""
    tokenizer = load_tokenizer(model_folder)
    begin_id = _begin_of_text_id(Path(model_folder), tokenizer)
    return TextEncoder(tokenizer, begin_id, end_of_text_ids(model_folder))


def kept_encoder(model_folder: Path) -> TextEncoder:
    """Returns the same as `load_encoder`, which reads the files again only when one of
    them has changed.
    """
    return _encoder_at(model_folder, folder_stamp(model_folder))


@lru_cache(maxsize=4)
def _encoder_at(model_folder: Path, stamp: Stamp) -> TextEncoder:
    return load_encoder(model_folder)


def load_tokenizer(model_folder: Path | str) -> Tokenizer:
    """Returns a model folder's tokenizer, which finds no control tokens in text.

    If a person types `<|endoftext|>`, it is encoded as those characters and not as the
    control token. Texts are never cut or padded. Raises TokenizerError.
    """
    path = Path(model_folder) / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except BaseException as error:  # the library has nothing narrower
        if not is_fault(error):
            raise
        raise TokenizerError(
            f"The model's {path.name} cannot be read ({error}). Copy the file again."
        ) from None
    return _reading_plain_text(tokenizer)


def _reading_plain_text(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokenizer_sha256(model_folder: Path | str) -> str:
    """Returns a SHA-256 of all that decides how text becomes tokens, but for its end.

    It is in hexadecimal digits. The tokenizer itself is not loaded, which takes long.
    """
    folder = Path(model_folder)
    digest = sha256((folder / "tokenizer.json").read_bytes())
    config = _read_object(folder / "tokenizer_config.json")
    if "add_bos_token" in config:
        digest.update(repr([config["add_bos_token"], config.get("bos_token")]).encode())
    return digest.hexdigest()


def end_of_text_ids(model_folder: Path | str) -> tuple[int, ...]:
    """Returns the tokens that end a text, by the model's own files.

    The first one is the end-of-sequence token that the model was made with. Raises
    TokenizerError if the files name none.
    """
    found: dict[int, None] = {}
    for name in END_FILES:
        ends = _read_object(Path(model_folder) / name).get("eos_token_id")
        for end in ends if isinstance(ends, list) else [ends]:
            if end is None:
                continue
            if not is_whole(end) or end < 0:
                raise TokenizerError(
                    f"eos_token_id in the model's {name} is no token: {end!r}."
                )
            found[end] = None
    if not found:
        raise TokenizerError(
            "The model does not say which token ends a text. Add eos_token_id to its "
            "config.json."
        )
    return tuple(found)


def _begin_of_text_id(folder: Path, tokenizer: Tokenizer) -> int | None:
    """Returns the token that the model's tokenizer puts before every text, or None.

    `add_bos_token` in tokenizer_config.json decides where it is given, as it does in
    transformers; else the tokenizer's own post-processor does.
    """
    config = _read_object(folder / "tokenizer_config.json")
    wanted = config.get("add_bos_token")
    if wanted is None:
        return _put_first(tokenizer)
    name = config.get("bos_token")
    if isinstance(name, dict):
        name = name.get("content")
    found = tokenizer.token_to_id(name) if isinstance(name, str) else None
    return found if wanted else None


def _put_first(tokenizer: Tokenizer) -> int | None:
    """Returns the special token that the post-processor puts before a text."""
    encoded = tokenizer.encode("a", add_special_tokens=True)
    is_special = encoded.special_tokens_mask
    return encoded.ids[0] if is_special and is_special[0] else None


def _read_object(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file, which is empty if there is no such file.

    Raises TokenizerError if the file holds anything else.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise TokenizerError(
            f"The model's {path.name} is not JSON ({error})."
        ) from None
    if not isinstance(value, dict):
        raise TokenizerError(f"The model's {path.name} holds no JSON object.")
    return value


def check_reads_back(encoder: TextEncoder) -> None:
    """Raises TokenizerError if common text is lost on its way to tokens and back.

    One space more at the beginning is no loss.
    """
    for texts in PROBES:
        ids = [token for part in encode_parts(encoder, texts) for token in part]
        expected, found = "".join(texts), encoder.tokenizer.decode(ids)
        if found not in (expected, f" {expected}"):
            raise TokenizerError(
                f"The tokenizer does not give back what it is given: {expected!r} "
                f"became {found!r}."
            )


def encode_example(encoder: TextEncoder, segments: Sequence[Segment]) -> Encoded:
    """Returns an example as tokens, with the end token behind it.

    Each segment is encoded alone, so borders of segments are always borders of tokens.
    """
    parts = encode_parts(encoder, [text for text, _ in segments])
    ids: list[int] = []
    weights: list[float] = []
    origins: list[int] = []
    for number, (part, (_, weight)) in enumerate(zip(parts, segments, strict=True)):
        ids += part
        weights += [weight] * len(part)
        origins += [number] * len(part)
    last = len(segments) - 1
    ids, weights = [*ids, encoder.end_id], [*weights, segments[last][1]]
    origins.append(last)
    has_context = encoder.has_context(weights[0] if len(ids) > 1 else 0.0)
    if has_context:
        ids, weights = [encoder.context_id, *ids], [0.0, *weights]
        origins = [origins[0], *origins]
    return Encoded(ids, weights, origins, has_context)


def encode_parts(encoder: TextEncoder, texts: Sequence[str]) -> list[list[int]]:
    """Returns the tokens of each of several texts that stand one behind the other."""
    first = next((at for at, text in enumerate(texts) if text), 0)
    return [
        encode_text(encoder.inner if at > first else encoder.tokenizer, text)
        for at, text in enumerate(texts)
    ]


def encode_prompt(encoder: TextEncoder, *texts: str) -> list[int]:
    """Returns the tokens of a prompt, which may come in several texts, as segments do.

    It begins with the token with which the model wants texts to begin, if it wants one.
    The empty prompt is the token behind which texts begin.
    """
    ids = [token for part in encode_parts(encoder, texts) for token in part]
    if encoder.begin_id is not None or not ids:
        return [encoder.context_id, *ids]
    return ids


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Returns the tokens of a text alone."""
    if not text:
        # Some tokenizers put a space before nothing.
        return []
    # It is a batch of one, because `encode` makes all other threads wait until its end.
    [encoded] = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    return list(encoded.ids)
