"""Loaded by schemathesis: puts ids of things that exist into half of its requests."""

import json
import os
import zlib
from typing import Any

import schemathesis

# What the site has, by the name of the parameter or field: see __main__.py.
REAL: dict[str, list[str]] = json.loads(os.environ["FUZZ_REAL"])
# Longer answers only take longer.
MAX_TOKENS = 8


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    number = zlib.crc32(repr((case.path_parameters, case.body)).encode())
    if number % 2:
        return
    # What is deleted would be missed by the requests that follow.
    if case.method.upper() != "DELETE":
        case.path_parameters = with_real(case.path_parameters, number)
    case.query = with_real(case.query, number)
    if isinstance(case.body, dict):
        case.body = short(with_real(case.body, number))


def with_real(values: Any, number: int) -> Any:
    if not isinstance(values, dict):
        return values
    real = {
        name: REAL[name][number // 2 % len(REAL[name])]
        for name in values
        if name in REAL
    }
    return type(values)({**values, **real})


def short(body: dict[str, Any]) -> dict[str, Any]:
    limits = ("max_tokens", "max_completion_tokens")
    return {**body, **{name: MAX_TOKENS for name in limits if name in body}}
