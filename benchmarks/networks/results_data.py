"""The data of a row of the tables of results, and published numbers: one record each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer
from results_plan import Images, Row, read_toml, slug

from lionheart.errors import ArtifactError, ConfigError
from lionheart.files import read_json
from lionheart.record import Record, read_record
from lionheart.runs import Accuracy
from lionheart.system import CostTotals, SystemRecord


class Figure(Record):
    """Accuracy of a mapping over fresh chips at one time.

    Args:
        t_inference: Time since programming ended [s].
        mean: Mean over chips.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        std: Standard deviation from chip to chip.
        n_chips: Chips.
        n_samples: Images.
        digital_accuracy: Accuracy of the digital network on the same images.
        drop_pp: How far the mean is below it [pp].
    """

    t_inference: float
    mean: float
    low: float
    high: float
    std: float
    n_chips: int
    n_samples: int
    digital_accuracy: float
    drop_pp: float


def make_figure(accuracy: Accuracy, n_samples: int, digital: float) -> Figure:
    """Return the figure of an accuracy on images whose digital accuracy is `digital`."""
    return Figure(
        t_inference=accuracy.t_inference,
        mean=accuracy.mean,
        low=accuracy.low,
        high=accuracy.high,
        std=accuracy.std,
        n_chips=accuracy.n_chips,
        n_samples=n_samples,
        digital_accuracy=digital,
        drop_pp=100 * (digital - accuracy.mean),
    )


class FigureKey(Record):
    """What figures depend on.

    Args:
        model: Hash of the mapped network.
        split: Test or validation.
        times: Times since programming ended [s].
        n_chips: Chips.
        images: First images of the split, or all.
    """

    model: str
    split: str
    times: tuple[float, ...]
    n_chips: int
    images: Images


class Figures(Record):
    """Figures of one run on one split, as they are kept in its folder.

    Args:
        key: What they depend on.
        over_time: At each time.
        elapsed_s: Wall time of measuring them [s].
    """

    key: FigureKey
    over_time: tuple[Figure, ...]
    elapsed_s: float


class SystemFigure(Record):
    """Time and energy of one inference on a platform.

    Args:
        platform: Name of the platform.
        speedup: All-digital time over that of the mapped network [-].
        energy_gain: All-digital energy over that of the mapped network [-].
        n_tiles: Tiles of the mapped network.
        all_digital: The all-digital network.
        mapped: The mapped one.
    """

    platform: str
    speedup: float
    energy_gain: float
    n_tiles: int
    all_digital: CostTotals
    mapped: CostTotals


def make_system_figure(system: SystemRecord) -> SystemFigure:
    """Return what a row keeps of an estimate."""
    whole, mapped = system.all_digital, system.mapped
    return SystemFigure(
        platform=system.platform,
        speedup=system.speedup,
        energy_gain=system.energy_gain,
        n_tiles=system.n_tiles,
        all_digital=CostTotals(latency_s=whole.latency_s, energy_j=whole.energy_j),
        mapped=CostTotals(latency_s=mapped.latency_s, energy_j=mapped.energy_j),
    )


class RowBaseline(Record):
    """Accuracies of the digital network.

    Args:
        validation_accuracy: On all of validation.
        test_accuracy: On all of test.
    """

    validation_accuracy: float
    test_accuracy: float


class RowEnvironment(Record):
    """What may change the numbers.

    Args:
        lionheart: Its version.
        torch: Its version.
        cpu: Processor.
        threads: Threads of PyTorch.
        gpu: Name of the first GPU.
    """

    model_config = ConfigDict(extra="allow")

    lionheart: str | None = None
    torch: str | None = None
    cpu: str | None = None
    threads: int | None = None
    gpu: str | None = None


class Mapped(Record):
    """What of a network is analog.

    Args:
        analog_mac_share: Share of the MACs on tiles, 0 to 1.
        analog_mac_share_of_candidates: The same of the MACs that may go on tiles.
        analog_weight_share: Share of the weights on tiles, 0 to 1.
        macs: MACs of the network.
        n_projections: Its projections.
        n_candidates: Those that may go on tiles.
        n_tiles: Tiles.
        digital: Candidates that stayed digital.
        excluded: Projections that were no candidates.
    """

    analog_mac_share: float
    analog_mac_share_of_candidates: float
    analog_weight_share: float
    macs: int
    n_projections: int
    n_candidates: int
    n_tiles: int
    digital: tuple[str, ...]
    excluded: tuple[str, ...]


class RowData(Mapped):
    """All that was measured of a row.

    Args:
        schema_version: Version of the written form.
        name: Name of the row.
        row: Its settings.
        command: What measures it.
        map_command: What finds the same mapping.
        outcome: How the search ended.
        baseline: The digital network.
        retrained_digital_accuracy: Test accuracy of the retrained network without tiles; None = nothing was retrained.
        n_steps: Steps of retraining.
        validation: At the time of the bound.
        test: At the time of the bound.
        test_over_time: At all times.
        system: On each platform.
        search_s: Wall time of the search [s].
        figures_s: Wall time of the figures [s].
        environment: What may change the numbers.
    """

    schema_version: Literal[1]
    name: str
    row: Annotated[
        Row,
        BeforeValidator(lambda data: data if isinstance(data, Row) else Row.from_json(data)),
        PlainSerializer(Row.to_json),
    ]
    command: str
    map_command: str
    outcome: str
    baseline: RowBaseline
    retrained_digital_accuracy: float | None = None
    n_steps: int = 0
    validation: Figure
    test: Figure
    test_over_time: tuple[Figure, ...]
    system: tuple[SystemFigure, ...]
    search_s: float
    figures_s: float
    environment: RowEnvironment


def data_path(folder: Path, row: Row) -> Path:
    """Return where a row's data lie."""
    return folder / slug(row.task) / f"{row.stem}.json"


def read_row(path: Path) -> RowData:
    """Return the data of a row.

    Raises:
        ArtifactError: The file is damaged or of another version.
    """
    try:
        return RowData.from_json(read_json(path), str(path))
    except ArtifactError as error:
        hint = "measure the row again: make results ROW=... AGAIN=1"
        raise ArtifactError(f"{error.message}\nexpected the data of a row", hint=hint) from None


class PublishedResult(Record):
    """A printed result.

    Args:
        task: The network.
        source: Name of the publication.
        method: How the mapping was found.
        float_accuracy: Of the digital network [%]; None = not printed.
        analog_macs: Share of the MACs on tiles [%]; None = not printed.
        accuracy: Of the mapped network [%]; None = not printed.
        note: What else to know.
    """

    model_config = ConfigDict(extra="forbid")

    task: str
    source: str
    method: str
    float_accuracy: float | None = None
    analog_macs: float | None = None
    accuracy: float | None = None
    note: str = ""


class Published(Record):
    """The file of published numbers.

    Args:
        sources: Name -> publication.
        results: What they print.
        more: Task -> line for its page.
    """

    sources: dict[str, str]
    results: tuple[PublishedResult, ...] = ()
    more: dict[str, str] = Field(default_factory=dict)


def read_published(path: Path) -> Published:
    """Return the file of published numbers.

    Raises:
        ArtifactError: It cannot be read, or a result has a key that is not known.
        ConfigError: A result has no source.
    """
    data: dict[str, Any] = read_toml(path)
    found = read_record(Published, data, str(path))
    for each in found.results:
        if each.source not in found.sources:
            raise ConfigError(
                f"{path}: {each.task}, {each.method}: got no known source",
                hint=f"sources: {', '.join(found.sources)}",
            )
    return found
