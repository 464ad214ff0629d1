"""Base class and functions for records: typed results that are converted to plain data (JSON types) and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from lionheart.errors import ArtifactError

T = TypeVar("T")
_PLAIN = ConfigDict(allow_inf_nan=False, ser_json_inf_nan="constants")  # nan and inf must not become null
_ANY: TypeAdapter[Any] = TypeAdapter(Any, config=_PLAIN)
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}  # cached, because construction takes milliseconds
_ARGUMENT = re.compile(r"^ {4}(\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)  # entries of a docstring's Args section
_HINT = "check that the file is complete and that this version of lionheart wrote it"
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
    """Base class of records: immutable groups of named results. Unknown keys are ignored; NaN and infinity are rejected."""

    model_config = ConfigDict(extra="ignore", frozen=True, **_PLAIN)

    def replace(self, **changes: Any) -> Self:
        """Return a copy in which the fields named in `changes` have new values; all fields are validated."""
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**kept, **changes})

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data: a dict whose values have JSON types."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Any, where: str) -> Self:
        """Convert plain data (JSON types) to a record of this class, and return the record.

        Args:
            data: Plain data that `to_json` returned.
            where: Name of the data in error messages, for example a path.

        Raises:
            ArtifactError: A key is missing or a value has the wrong type; the message lists all such keys.
        """
        return read_record(cls, data, where)


def write_record(record: Any) -> Any:
    """Convert a record, a dataclass, or a collection of records to plain data (JSON types), and return these data."""
    return _adapter(type(record)).dump_python(record, mode="json")


def read_record(kind: type[T], data: Any, where: str) -> T:
    """Convert plain data (JSON types) to a record, a dataclass, or a collection of records, and return this object.

    Args:
        kind: Type of the returned object, such as ``tuple[Accuracy, ...]``.
        data: Plain data that `write_record` returned.
        where: Name of the data in error messages, for example a path.

    Raises:
        ArtifactError: A key is missing or a value has the wrong type; the message lists all such keys.
    """
    try:
        found: T = _adapter(kind).validate_json(_as_json(data), strict=True)
        return found
    except ValidationError as error:
        raise ArtifactError("\n".join(describe_faults(error, where)), hint=_HINT) from None


def describe_schema(kind: Any) -> dict[str, Any]:
    """Return the JSON schema for the plain data that `write_record` returns for objects of the type `kind`."""
    schema = _adapter(kind).json_schema(mode="serialization")
    for each in (schema, *schema.get("$defs", {}).values()):
        _document(each)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _document(schema: dict[str, Any]) -> None:
    """Shorten the docstring in the JSON schema of a class to the summary, and copy the text of ``Args:`` to the fields."""
    summary, _, rest = schema.get("description", "").partition("\n\n")
    if summary:
        schema["description"] = " ".join(summary.split())
    for name, text in _ARGUMENT.findall(rest):
        if name in schema.get("properties", {}):
            schema["properties"][name].setdefault("description", " ".join(text.split()))


def describe_faults(error: ValidationError, where: str) -> list[str]:
    """Return one line for each validation error of pydantic, with the path of the field, its value, and the expected type."""
    return [_describe_fault(dict(fault), where) for fault in error.errors()]


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        has_fields = is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel))
        _ADAPTERS[kind] = TypeAdapter(kind) if has_fields else TypeAdapter(kind, config=_PLAIN)
    return _ADAPTERS[kind]


def _as_json(data: Any) -> bytes:
    return _ANY.dump_json(data)


def _describe_fault(fault: Mapping[str, Any], where: str) -> str:
    path = where + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in fault["loc"])
    if fault["type"] == "missing":
        return f"{path}: missing"
    value = fault["input"]
    shown = repr(value) if value is None or isinstance(value, (bool, int, float)) else f"a {type(value).__name__}"
    if fault["type"] in ("literal_error", "enum"):
        return f"{path}: got {value!r}, expected one of {fault['ctx']['expected']}"
    return f"{path}: got {shown}, expected {_EXPECTED.get(fault['type'], fault['msg'])}"
