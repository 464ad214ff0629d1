"""Settings given as text: every setting can be set, and every fault is named with its whole path."""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest

from lionheart.deprecated import DeprecatedNameWarning
from lionheart.devices import DEVICES, ReadPolicy
from lionheart.errors import ConfigError
from lionheart.jobs import MapSettings, read_settings
from lionheart.jobs.assignments import list_settings
from lionheart.spec import Spec

TECHNOLOGIES = ("ideal", "pcm", "reram_cmo", "reram_wan2022")  # those that need no measurements of the user


def leaves(spec: Spec, prefix: str = "") -> Iterator[tuple[str, Spec, str]]:
    """Yield the path of each value, and the spec and the name that hold it."""
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, Spec):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", spec, name


def value_at(settings: Spec, path: str) -> Any:
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


def another(annotation: Any, value: Any) -> tuple[str, Any]:
    """Return a text that sets another value of the type, and the value."""
    if get_origin(annotation) is Annotated:
        return another(get_args(annotation)[0], value)
    if get_origin(annotation) in (Union, UnionType):
        return another(next(each for each in get_args(annotation) if each is not type(None)), value)
    if get_origin(annotation) is Literal:
        [text, *_] = [each for each in get_args(annotation) if each != value] or [value]
        return text, text
    if get_origin(annotation) is tuple and get_args(annotation)[0] is ReadPolicy:
        return "[{}, {n_reads = 3, row_copies = 9}]", (ReadPolicy(), ReadPolicy(n_reads=3, row_copies=9))
    if get_origin(annotation) is tuple:
        if value and isinstance(value[0], tuple):
            changed = tuple(tuple(2 * each for each in row) for row in value)
            return str([list(row) for row in changed]), changed
        if get_args(annotation)[0] is str:
            return "one, two*", ("one", "two*")
        changed = tuple(2 * each for each in value or (1.0, 2.0))
        return ",".join(map(str, changed)), changed
    if annotation is bool:
        return str(not value).lower(), not value
    if annotation is int:
        return str((value or 7) + 1), (value or 7) + 1
    if annotation is float:
        changed = 0.75 if value in (None, 0.0) else 0.5 * value if value < 1 else 2 * value
        return str(changed), changed
    return "something", "something"


DEFAULTS = {
    name: MapSettings.preset("quick", tile={"device": {"technology": name}}) for name in TECHNOLOGIES
}  # one default of each device
CASES = [
    (technology, path)
    for technology, settings in DEFAULTS.items()
    for path, _, _ in leaves(settings)
    if technology == "pcm" or path.startswith("tile.device.")
]


def test_there_are_as_many_settings_as_specs_have():
    assert [path for path, _, _ in leaves(MapSettings())] == list(list_settings(MapSettings, {}))
    assert set(TECHNOLOGIES) < set(DEVICES.names())


#: Settings whose other values depend on each other or on measurements.
CHOSEN: dict[str, tuple[str, Any]] = {
    "search.guarantee": ("0.75", 0.75),
    "tile.bound_management": ("iterative", "iterative"),
    "tile.device.acceptance": ("2", 2.0),
    "tile.device.g_min": ("0.5", 0.5),
    "tile.device.programming_noise": ("1,2,3", (1.0, 2.0, 3.0)),
    "tile.device.times": ("2,172800,345600", (2.0, 172_800.0, 345_600.0)),
}


@pytest.mark.parametrize(("technology", "path"), CASES)
def test_every_setting(technology: str, path: str):
    before = DEFAULTS[technology]
    [(spec, name)] = [(spec, name) for found, spec, name in leaves(before) if found == path]
    if path.endswith((".technology", ".kind")):  # they decide which other settings there are
        expected = {"technology": "reram_cmo", "kind": "pair" if getattr(spec, name) == "single" else "single"}[name]
        after = read_settings("quick", assignments=[f"{path}={expected}"])
        assert value_at(after, path) == expected
        return
    if (technology, path) == ("reram_cmo", "tile.device.programming_noise"):
        text, expected = "1,2", (1.0, 2.0)
    else:
        text, expected = CHOSEN.get(path) or another(type(spec).model_fields[name].annotation, getattr(spec, name))
    after = read_settings("quick", assignments=[f"{path}={text}", f"technology={technology}"])
    assert value_at(after, path) == expected
    changed = {each for each, *_ in leaves(after) if value_at(after, each) != value_at(before, each)}
    assert changed == {path}


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("n_chips=20", "search.n_chips", 20),
        ("hwa.weight_clip=none", "tile.hwa.weight_clip", None),
        ("search.lifetime=1mo", "search.lifetime", 2_592_000.0),
        ("search.report_times=1s, 1d", "search.report_times", (1.0, 86_400.0)),
        ("search.report_times=[1.0, '1d']", "search.report_times", (1.0, 86_400.0)),
        ("tile.reprogram_after=30d", "tile.reprogram_after", 2_592_000.0),
        ("tile.bound_management=none", "tile.bound_management", "none"),
        ("search.exclude=", "search.exclude", ()),
        ("search.exclude=[07]", "search.exclude", ("[07]",)),
        ("search.exclude=['re:a{1,2}', 'b']", "search.exclude", ("re:a{1,2}", "b")),
        ("significance=1, 2", "tile.device.converter.significance", (1.0, 2.0)),
        ("compile=yes", "compile", True),
        ("search.validation_samples=None", "search.validation_samples", None),
        ("train.learning_rate=1e-3", "train.learning_rate", 1e-3),
    ],
)
def test_texts(text: str, path: str, value: Any):
    assert value_at(read_settings("quick", assignments=[text]), path) == value


def test_settings_of_a_technology_are_known_whatever_comes_first():
    for texts in (["acceptance=2", "technology=reram_cmo"], ["technology=reram_cmo", "acceptance=2"]):
        assert value_at(read_settings("quick", assignments=texts), "tile.device.acceptance") == 2.0


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("n_chips", "--set: got 'n_chips', expected a setting, '=' and a value", "--set search.n_chips=20"),
        ("=3", "--set: got '=3', expected a setting", "--set search.n_chips=20"),
        (
            "search.n_chip=3",
            "--set search.n_chip: unknown setting",
            "did you mean 'search.n_chips'? settings of search",
        ),
        ("serach.n_chips=3", "--set serach.n_chips: unknown setting", "did you mean 'search.n_chips'? groups: search,"),
        ("n_chps=3", "--set n_chps: unknown setting", "did you mean 'search.n_chips'"),
        ("max_epochs=3", "--set max_epochs: 2 settings have this name", "search.max_epochs, train.max_epochs"),
        (
            "tile.hwa=3",
            "--set tile.hwa: got the name of a group of settings, expected one setting",
            "tile.hwa.weight_noise, ",
        ),
        ("n_chips=many", "search.n_chips: got 'many', expected a whole number", "simulated chips for each decision"),
        ("n_chips=0", "search.n_chips: got 0: Input should be greater", "simulated chips for each decision"),
        ("max_drop_pp=nan", "search.max_drop_pp: got nan: Input should be a finite number", "largest drop"),
        ("weight_noise=x", "tile.hwa.weight_noise: got 'x', expected a number", "sigma"),
        ("compile=maybe", "compile: got 'maybe', expected true or false", "torch.compile"),
        ("schedule=cosin", "train.schedule: got 'cosin'", "did you mean 'cosine'"),
        ("technology=pcn", "tile.device.technology: got 'pcn'", "did you mean 'pcm'"),
        ("converter.kind=sngle", "tile.device.converter.kind: got 'sngle'", "did you mean 'single'"),
        ("t_inference=soon", "search.t_inference: duration: got 'soon'", "1mo (30 days)"),
        ("reprogram_after=soon", "tile.reprogram_after: duration: got 'soon'", "1mo (30 days)"),
        ("bounds_pp=1,0", "pareto.bounds_pp.1: got 0.0", "accuracy drops"),
        ("bounds_pp=[1,", "pareto.bounds_pp: got '[1,', expected a list", "1,2,5"),
        ("tile.device.read_noise=1,2", "tile.device.read_noise: got [1.0, 2.0], expected more values", "relative to g"),
    ],
)
def test_faults(text: str, message: str, hint: str):
    with pytest.raises(ConfigError) as caught:
        read_settings("quick", assignments=[text])
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_all_faults_at_once():
    with pytest.raises(ConfigError) as caught:
        read_settings("quick", assignments=["n_chips=0", "train.momentum=2", "seed", "no_such=1"])
    assert len(caught.value.message.splitlines()) == 4


def test_a_setting_is_given_once():
    with pytest.raises(ConfigError, match="search.n_chips: assigned twice, as '2' and as '3'"):
        read_settings("quick", assignments=["n_chips=2", "search.n_chips=3"])


def test_old_names_work_with_a_warning(tmp_path: Path):
    for text in ("search.promise=0.9", "promise=0.9"):
        with pytest.warns(DeprecatedNameWarning, match="search.promise is now search.confidence_level"):
            assert read_settings("quick", assignments=[text]).search.confidence_level == 0.9
    (tmp_path / "old.toml").write_text("[search]\npromise = 0.8\n")
    with pytest.warns(DeprecatedNameWarning, match="promise is now"):
        found = read_settings("quick", tmp_path / "old.toml", assignments=["confidence_level=0.9"])
    assert found.search.confidence_level == 0.9
