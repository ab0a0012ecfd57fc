"""Writes chats by a model's own template. A script, run in a process of its own.

Templates are programs that came with a model. Beside the sandbox they need limits of
time and memory, which only a process can have. The script knows nothing of the site.

Standard input is {"template", "variables", "messages", "sample"}. Standard output is
{"prompt": the messages up to where the assistant's next answer begins, "sample": those
of the sample as they are, or null} or {"error": "..."}.
"""

import json
import resource
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 5
MEMORY_BYTES = 512 * 1024**2
# Messages have at most 100,000, and nearly twice as many once they are broken up.
MAX_PROMPT_CHARACTERS = 250_000


class Generation(Extension):
    """Lets `{% generation %}`, which marks answers for trainers, change nothing."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Returns what stands between the two tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def main() -> None:
    """Reads what to write from standard input and answers on standard output."""
    limit()
    asked = json.load(sys.stdin)
    try:
        answer = rendered(**asked)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        answer = {"error": str(error)[:300]}
    json.dump(answer, sys.stdout)


def limit() -> None:
    """Limits the time, the memory and the files of this process."""
    for kind, allowed in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
    ):
        # Not every system has all of these limits.
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (allowed, allowed))


def rendered(
    template: str,
    variables: dict[str, str],
    messages: list[dict[str, str]],
    sample: list[dict[str, str]],
) -> dict[str, Any]:
    """Returns the prompt and the sample as the template writes them.

    Raises what Jinja raises, or ValueError if the prompt is too long.
    """
    compiled = environment().from_string(template)
    # Every template may ask for these.
    known = {**variables, "tools": None, "documents": None}
    prompt = compiled.render(messages=messages, add_generation_prompt=True, **known)
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise ValueError("it writes too much")
    try:
        shown = compiled.render(messages=sample, add_generation_prompt=False, **known)
    except TemplateError:
        return {"prompt": prompt, "sample": None}
    return {"prompt": prompt, "sample": shown[:MAX_PROMPT_CHARACTERS]}


def environment() -> ImmutableSandboxedEnvironment:
    """Returns an environment with all that templates of models on the hub expect."""
    found = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    found.filters["tojson"] = to_json
    found.globals["raise_exception"] = refuse
    found.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return found


def to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    """Returns the value as JSON. Jinja's own filter writes `<` as an escape."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def refuse(message: str) -> None:
    """Raises the error with which a template refuses messages."""
    raise TemplateError(message)


if __name__ == "__main__":
    main()
