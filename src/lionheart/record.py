"""The base class of records, and functions that convert records to plain data (JSON types) and back.

A record is an immutable group of named and typed values, such as the results of an evaluation.
"""

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
    """Base class of records: immutable groups of named results.

    The constructor ignores unknown names, and rejects NaN and infinity.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, **_PLAIN)

    def replace(self, **changes: Any) -> Self:
        """Return a copy in which the fields named in `changes` have the given values. All fields of the copy are validated."""
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**kept, **changes})

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data: a dict whose values have JSON types."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Any, where: str) -> Self:
        """Return the record of this class that is described by plain data (JSON types).

        Args:
            data: Plain data that `to_json` returned.
            where: Name of the data in error messages, for example a path.

        Raises:
            ArtifactError: A key is missing or a value has the wrong type; the message lists all such keys.
        """
        return read_record(cls, data, where)


def write_record(record: Any) -> Any:
    """Return a record, a dataclass, or a collection of records as plain data: dicts, lists, strings, numbers, bool and None."""
    return _adapter(type(record)).dump_python(record, mode="json")


def read_record(kind: type[T], data: Any, where: str) -> T:
    """Return the record, dataclass, or collection of records that is described by plain data (JSON types).

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
    except ValueError as error:  # from pydantic, if the data are nested too deeply or contain half of a surrogate pair
        raise ArtifactError(f"{where}: got data that cannot be text in JSON: {error}", hint=_HINT) from None


def describe_schema(kind: Any) -> dict[str, Any]:
    """Return the JSON schema for the plain data that `write_record` returns for objects of the type `kind`."""
    schema = _adapter(kind).json_schema(mode="serialization")
    for each in (schema, *schema.get("$defs", {}).values()):
        _document(each)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _document(schema: dict[str, Any]) -> None:
    """Change the JSON schema of a class in place, whose description is the docstring of the class.

    The description is shortened to its first paragraph. Each entry of ``Args:`` becomes the description of a field.
    """
    summary, _, rest = schema.get("description", "").partition("\n\n")
    if summary:
        schema["description"] = " ".join(summary.split())
    for name, text in _ARGUMENT.findall(rest):
        if name in schema.get("properties", {}):
            schema["properties"][name].setdefault("description", " ".join(text.split()))


def describe_faults(error: ValidationError, where: str) -> list[str]:
    """Return one line for each validation error of pydantic: the field, the given value or its type, and the expected value.

    Args:
        error: Exception that contains the validation errors.
        where: Name of the data, with which each line begins.
    """
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
