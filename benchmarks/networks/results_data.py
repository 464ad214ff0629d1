"""Records of a row of the tables of results and of published numbers."""

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
        low: Lower end of the 95 % interval of the mean.
        high: Upper end of the 95 % interval of the mean.
        std: Standard deviation over chips.
        n_chips: Number of chips.
        n_samples: Number of images.
        digital_accuracy: Accuracy of the digital network on the same images.
        drop_pp: Drop of the mean below the digital accuracy [pp].
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
    """Inputs that determine the figures of a row.

    Args:
        model: Hash of the mapped network.
        split: Test or validation.
        times: Times since programming ended [s].
        n_chips: Number of chips.
        images: Number of first images of the split, or all.
    """

    model: str
    split: str
    times: tuple[float, ...]
    n_chips: int
    images: Images


class Figures(Record):
    """Figures of one run on one split, as stored in the folder of the run.

    Args:
        key: Inputs that determine the figures.
        over_time: Figures at each time.
        elapsed_s: Wall time of the measurements [s].
    """

    key: FigureKey
    over_time: tuple[Figure, ...]
    elapsed_s: float


class SystemFigure(Record):
    """Time and energy of one inference on a platform.

    Args:
        platform: Name of the platform.
        speedup: Time of the all-digital network divided by the time of the mapped network [-].
        energy_gain: Energy of the all-digital network divided by the energy of the mapped network [-].
        n_tiles: Tiles of the mapped network.
        all_digital: Cost of the all-digital network.
        mapped: Cost of the mapped network.
    """

    platform: str
    speedup: float
    energy_gain: float
    n_tiles: int
    all_digital: CostTotals
    mapped: CostTotals


def make_system_figure(system: SystemRecord) -> SystemFigure:
    """Return the stored values of an estimate."""
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
        validation_accuracy: Accuracy on all validation samples.
        test_accuracy: Accuracy on all test samples.
    """

    validation_accuracy: float
    test_accuracy: float


class RowEnvironment(Record):
    """Software and hardware that may change the numbers.

    Args:
        lionheart: Version of LionHeart.
        torch: Version of PyTorch.
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
    """Analog share of a mapped network.

    Args:
        analog_mac_share: Share of the MACs on tiles, 0 to 1.
        analog_mac_share_of_candidates: Share of the candidates' MACs on tiles, 0 to 1.
        analog_weight_share: Share of the weights on tiles, 0 to 1.
        macs: MACs of the network.
        n_projections: Number of projections.
        n_candidates: Number of candidates.
        n_tiles: Number of tiles.
        digital: Candidates that stayed digital.
        excluded: Projections excluded from the candidates.
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
    """All measurements of a row.

    Args:
        schema_version: Version of the file format.
        name: Name of the row.
        row: Settings of the row.
        command: Command that measures the row.
        map_command: Command that finds the same mapping.
        outcome: Outcome of the search.
        baseline: Accuracies of the digital network.
        retrained_digital_accuracy: Test accuracy of the retrained network without tiles; None without retraining.
        n_steps: Number of retraining steps.
        validation: Validation figure at the time of the bound.
        test: Test figure at the time of the bound.
        test_over_time: Test figures at all times.
        system: Time and energy on each platform.
        search_s: Wall time of the search [s].
        figures_s: Wall time of the figures [s].
        environment: Software and hardware.
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
    """Return the path of the data of a row."""
    return folder / slug(row.task) / f"{row.stem}.json"


def read_row(path: Path) -> RowData:
    """Return the data of a row.

    Raises:
        ArtifactError: The file is damaged or has another version.
    """
    try:
        return RowData.from_json(read_json(path), str(path))
    except ArtifactError as error:
        hint = "measure the row again: make results ROW=... AGAIN=1"
        raise ArtifactError(f"{error.message}\nexpected the data of a row", hint=hint) from None


class PublishedResult(Record):
    """A published result.

    Args:
        task: Task of the network.
        source: Name of the publication.
        method: Method that found the mapping.
        float_accuracy: Accuracy of the digital network [%]; None if not printed.
        analog_macs: Share of the MACs on tiles [%]; None if not printed.
        accuracy: Accuracy of the mapped network [%]; None if not printed.
        note: Further remarks.
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
    """Content of the file of published numbers.

    Args:
        sources: Publication by name.
        results: Published results.
        more: Additional line of the page of each task.
    """

    sources: dict[str, str]
    results: tuple[PublishedResult, ...] = ()
    more: dict[str, str] = Field(default_factory=dict)


def read_published(path: Path) -> Published:
    """Return the file of published numbers.

    Raises:
        ArtifactError: The file cannot be read, or a result has an unknown key.
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
