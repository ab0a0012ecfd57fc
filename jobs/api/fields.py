"""Kinds of fields whose errors say in words what they take."""

from dataclasses import dataclass
from typing import Annotated, Any, Self

from ninja import Schema
from pydantic import (
    AfterValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import (
    CoreSchema,
    InitErrorDetails,
    PydanticCustomError,
    core_schema,
)

from finetune_site.common.parsing import is_text
from finetune_site.common.spelling import misspelt

AUTO = "auto"


@dataclass(frozen=True)
class Between:
    """A kind of field: a number from `low` to `high`, or null, or `auto` if allowed."""

    low: float
    high: float
    whole: bool = True
    auto: bool = False

    def check(self, value: Any) -> Any:
        if value is None or (self.auto and value == AUTO):
            return value
        if not self.fits(value):
            raise PydanticCustomError("number", "{words}", {"words": self.words})
        return int(value) if self.whole else float(value)

    def fits(self, value: Any) -> bool:
        # Python takes true for 1.
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (not self.whole or value % 1 == 0)

    @property
    def words(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        auto = f', or "{AUTO}"' if self.auto else ""
        return f"give {kind} from {self.low:,g} to {self.high:,.10g}{auto}"

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        kind = "integer" if self.whole else "number"
        number = {"type": kind, "minimum": self.low, "maximum": self.high}
        auto = [{"type": "string", "enum": [AUTO]}] if self.auto else []
        return {"anyOf": [number, *auto, {"type": "null"}]}


class RequestObject(Schema):
    """A part of a body that must be an object. Ninja would read the attributes of any
    value, and take a number for an object without fields.
    """

    @model_validator(mode="wrap")
    @classmethod
    def check_object(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict | cls):
            raise PydanticCustomError("object", "give an object")
        if isinstance(value, dict):
            _refuse_wrong_key(cls, value)
        return handler(value)

    @classmethod
    def is_wrong(cls, key: str, value: Any) -> bool:
        """Returns whether a key that is not known is refused; else it is ignored."""
        return False


class StrictObject(RequestObject):
    """A part of a body in which every key has to be known, unless its value is null."""

    @classmethod
    def is_wrong(cls, key: str, value: Any) -> bool:
        return value is not None


def _refuse_wrong_key(schema: type[RequestObject], body: dict[str, Any]) -> None:
    """Raises an error at a wrong key, with the known key that is most like it."""
    known = list(schema.model_fields)
    for key, value in body.items():
        if key in known or not schema.is_wrong(key, value):
            continue
        meant = misspelt(key, known)
        hint = f"did you mean {meant}?" if meant else f"known are {', '.join(known)}"
        words = {"hint": hint}
        error = PydanticCustomError("unknown", "there is no such key; {hint}", words)
        line = InitErrorDetails(type=error, loc=(key,), input=value)
        raise ValidationError.from_exception_data(schema.__name__, [line])


def check_text(value: str) -> str:
    if not is_text(value):
        raise PydanticCustomError("text", "it holds a character that is no text")
    return value


Text = Annotated[str, AfterValidator(check_text)]
