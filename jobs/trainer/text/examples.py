"""[contract] Reads and writes the lines of a dataset file, in the guide's three forms.

    {"data": "text"}
    {"data": {"text_list": ["text", "text"]}}
    {"data": {"text_list": ["text", "text"], "loss_weights": [0.1, 0.9]}}

The same forms without the outer `data` are read too. The site always writes the last
one.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

Segment = tuple[str, float]

# In training precision a smaller weight would vanish beside the others, and a larger
# one would leave nothing of them.
MIN_LOSS_WEIGHT = 1e-6
MAX_LOSS_WEIGHT = 100.0

LONG_FORM = '{"data": {"text_list": ["...", "..."], "loss_weights": [0.1, 0.9]}}'


class ExampleError(ValueError):
    """Says to people what is wrong with one line, and how to mend it."""


def parse_line(line: str | bytes) -> list[Segment]:
    """Returns the segments of one line: each a text and its loss weight, by default 1.

    Empty segments are kept, because weights belong to positions. Raises ExampleError.
    """
    return segments_of(read_json(line))


def segments_of(value: Any) -> list[Segment]:
    """Returns the segments of a line whose JSON is read already; see `parse_line`."""
    if isinstance(value, dict) and "data" in value:
        _refuse_unknown_keys(value, {"data"})
        value = value["data"]
    if isinstance(value, str):
        value = {"text_list": [value]}
    if not isinstance(value, dict):
        raise ExampleError(
            f"expected a text or an object, found {kind_of(value)}; write {LONG_FORM}"
        )
    _refuse_unknown_keys(value, {"text_list", "loss_weights"})
    texts = _texts(value)
    return list(zip(texts, _weights(value, len(texts)), strict=True))


def is_loss_weight(weight: float) -> bool:
    """Returns whether a weight is 0, or between the smallest and the largest one."""
    return weight == 0 or MIN_LOSS_WEIGHT <= weight <= MAX_LOSS_WEIGHT


def dump_line(segments: Sequence[Segment]) -> bytes:
    """Returns the line of an example in the long form, with its line end."""
    data = {
        "text_list": [text for text, _ in segments],
        "loss_weights": [weight for _, weight in segments],
    }
    return orjson.dumps({"data": data}) + b"\n"


def iter_examples(path: Path) -> Iterator[list[Segment]]:
    """Yields the examples of a version's `examples.jsonl`, which the import checked."""
    with path.open("rb") as file:
        for line in file:
            yield load_line(line)


def load_line(line: bytes) -> list[Segment]:
    """Returns the segments of a line that `dump_line` wrote, without checking it."""
    data = orjson.loads(line)["data"]
    weights = map(float, data["loss_weights"])
    return list(zip(data["text_list"], weights, strict=True))


def read_json(line: str | bytes, *, unique: bool = False) -> Any:
    """Returns the JSON value of a line; raises ExampleError if it is not JSON.

    With `unique` it is refused too if an object has a key twice: only one of the values
    could be kept.
    """
    try:
        value = orjson.loads(line)
        if unique and isinstance(value, dict):
            json.loads(line, object_pairs_hook=_unique)
        return value
    except RecursionError:
        raise ExampleError(f"it is nested too deeply; write {LONG_FORM}") from None
    except orjson.JSONDecodeError as error:
        if isinstance(line, bytes) and not is_utf8(line):
            raise ExampleError(
                "the text is not UTF-8; save the file with the encoding UTF-8"
            ) from None
        reason = str(error).split(":")[0]
        raise ExampleError(
            f"this is not JSON ({reason}, column {error.colno}); write {LONG_FORM}"
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ExampleError(f'"{twice}" stands there twice; leave one of them out')
    return found


def is_utf8(line: bytes) -> bool:
    """Returns whether the bytes are UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refuse_unknown_keys(value: dict[str, Any], known: set[str]) -> None:
    unknown = [key for key in value if key not in known]
    if not unknown:
        return
    names = ", ".join(f'"{key}"' for key in unknown[:3])
    raise ExampleError(f"unknown key {names}; write {LONG_FORM}")


def _texts(value: dict[str, Any]) -> list[str]:
    texts = value.get("text_list")
    if isinstance(texts, str):
        raise ExampleError(
            '"text_list" is one text; put it into brackets: {"text_list": ["..."]}'
        )
    if not isinstance(texts, list):
        raise ExampleError(f'"text_list" is missing or no list; write {LONG_FORM}')
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise ExampleError(
                f"text {number} of text_list is {kind_of(text)}; put it into quotes"
            )
    if not any(texts):
        raise ExampleError("there is no text in it; add some or delete the line")
    return texts


def _weights(value: dict[str, Any], num_texts: int) -> list[float]:
    weights = value.get("loss_weights")
    if weights is None:
        return [1.0] * num_texts
    if not isinstance(weights, list):
        raise ExampleError(f'"loss_weights" is no list; write {LONG_FORM}')
    if len(weights) != num_texts:
        texts = "1 text" if num_texts == 1 else f"{num_texts} texts"
        kind = "loss weight" if len(weights) == 1 else "loss weights"
        raise ExampleError(f"{texts} but {len(weights)} {kind}; give each text one")
    return [_weight(weight, number) for number, weight in enumerate(weights, start=1)]


def _weight(weight: Any, number: int) -> float:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise ExampleError(
            f"loss weight {number} is {kind_of(weight)}; write a number such as 0.5"
        )
    if not is_loss_weight(weight):
        raise ExampleError(
            f"loss weight {number} is {weight}; write 0 (read, not learned) or from "
            f"{MIN_LOSS_WEIGHT:g} to {MAX_LOSS_WEIGHT:g} (1 = learned)"
        )
    return float(weight)


def kind_of(value: Any) -> str:
    """Returns what kind of JSON value this is, in words for an error message."""
    names = {type(None): "null", bool: "true or false", str: "a text", list: "a list"}
    if isinstance(value, dict):
        return "an object"
    return names.get(type(value), "a number")
