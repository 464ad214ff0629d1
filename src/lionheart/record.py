"""Results as typed records: pydantic writes them as plain data and reads them back; nothing is converted by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from lionheart.errors import ArtifactError

T = TypeVar("T")
_PLAIN = ConfigDict(allow_inf_nan=False, ser_json_inf_nan="constants")  # what is no number does not become null
_ANY: TypeAdapter[Any] = TypeAdapter(Any, config=_PLAIN)
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}  # making one takes milliseconds
_ARGUMENT = re.compile(r"^ {4}(\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)  # of a docstring
_HINT = "is this data of a run written by this version of lionheart?"
_EXPECTED = {
    "missing": "missing",
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a finite number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "dataclass_type": "an object",
    "model_attributes_type": "an object",
}


class Record(BaseModel):
    """A frozen group of results. Unknown keys are left out when it is read; non-finite numbers are refused."""

    model_config = ConfigDict(extra="ignore", frozen=True, **_PLAIN)

    def replace(self, **changes: Any) -> Self:
        """Return a record with `changes`, validated as a whole."""
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**kept, **changes})

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Any, where: str) -> Self:
        """Read plain data; `where` names them in errors.

        Raises:
            ArtifactError: Keys are missing or values of the wrong type; all of them are named.
        """
        return read_record(cls, data, where)


def write_record(record: Any) -> Any:
    """Return a record, a dataclass, or a collection of them as plain data."""
    return _adapter(type(record)).dump_python(record, mode="json")


def read_record(kind: type[T], data: Any, where: str) -> T:
    """Read a record, a dataclass, or a collection of them from plain data.

    Raises:
        ArtifactError: Keys are missing or values of the wrong type; all of them are named.
    """
    try:
        found: T = _adapter(kind).validate_json(_as_json(data), strict=True)
        return found
    except ValidationError as error:
        raise ArtifactError("\n".join(describe_faults(error, where)), hint=_HINT) from None


def describe_schema(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a record, a dataclass, or a collection of them, as it is written."""
    schema = _adapter(kind).json_schema(mode="serialization")
    for part in (schema, *schema.get("$defs", {}).values()):
        _document(part)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _document(part: dict[str, Any]) -> None:
    """Give a class in a schema the summary of its docstring, and its fields what the docstring says of them."""
    summary, _, rest = part.get("description", "").partition("\n\n")
    if summary:
        part["description"] = " ".join(summary.split())
    for name, text in _ARGUMENT.findall(rest):
        if name in part.get("properties", {}):
            part["properties"][name].setdefault("description", " ".join(text.split()))


def describe_faults(error: ValidationError, where: str) -> list[str]:
    """Return a line for each fault that pydantic found: where, what came, what was expected."""
    return [_describe_fault(dict(fault), where) for fault in error.errors()]


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        has_fields = is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel))
        _ADAPTERS[kind] = TypeAdapter(kind) if has_fields else TypeAdapter(kind, config=_PLAIN)
    return _ADAPTERS[kind]


def _as_json(data: Any) -> bytes:
    return _ANY.dump_json(data)


def _describe_fault(fault: Mapping[str, Any], where: str) -> str:
    place = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
    if fault["type"] == "missing":
        return f"{place}: missing"
    value = fault["input"]
    shown = repr(value) if value is None or isinstance(value, (bool, int, float)) else f"a {type(value).__name__}"
    if fault["type"] in ("literal_error", "enum"):
        return f"{place}: got {value!r}, expected one of {fault['ctx']['expected']}"
    return f"{place}: got {shown}, expected {_EXPECTED.get(fault['type'], fault['msg'])}"
