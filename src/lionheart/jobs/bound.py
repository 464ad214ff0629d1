"""Bounds on the drop of a run's metric: checks of the settings, and the largest drop in the unit of the metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lionheart.data import take_samples
from lionheart.errors import ConfigError
from lionheart.evaluation import evaluate_accuracy
from lionheart.jobs.samples import split_validation
from lionheart.jobs.settings import MapSettings
from lionheart.metrics import Bound, Metric, parse_bound
from lionheart.runs import Journal
from lionheart.search import ParetoSpec, SearchSpec
from lionheart.tasks import Task

_DEFAULTS = {
    "max_drop": (1.0,),
    "bounds": (0.5, 1.0, 2.0, 5.0),
}  # in the unit of the drop, or in % of the digital value


def choose_bound(settings: MapSettings, metric: Metric) -> MapSettings:
    """Return the settings with the bound on the drop written out, in `max_drop_pp` or in `max_drop`.

    `max_drop_pp` holds an absolute bound of a share or a perplexity, and `max_drop` all others.

    Args:
        settings: Settings of a run.
        metric: Metric of the task.

    Raises:
        ConfigError: The bound has another unit than the metric, or the settings ask for a confidence level of a metric that is
            computed over a whole set.
    """
    search = settings.search
    if search.confidence_level is not None and metric.is_of_set:
        raise ConfigError(
            f"search.confidence_level: got {search.confidence_level}, but the {metric.name} is computed over the whole set, "
            "and the confidence bound needs one score for each sample",
            hint="omit the confidence level, or use a metric of scope 'sample', such as the mean absolute error",
        )
    [bound] = _choose("search.max_drop", _one(search.max_drop), _one(search.max_drop_pp), metric)
    return settings.replace(search=search.replace(**_write("max_drop", [bound], metric, single=True)))


def choose_bounds(settings: MapSettings, metric: Metric) -> MapSettings:
    """Return the settings with the bounds of a Pareto front written out, in `bounds_pp` or in `bounds`.

    Args:
        settings: Settings of a run.
        metric: Metric of the task.

    Raises:
        ConfigError: A bound has another unit than the metric.
    """
    pareto = settings.pareto
    bounds = _choose("pareto.bounds", pareto.bounds, pareto.bounds_pp, metric)
    return settings.replace(pareto=pareto.replace(**_write("bounds", bounds, metric, single=False)))


def find_max_drop(task: Task, settings: MapSettings) -> float:
    """Return the largest drop that a run allows, in the unit of the metric's drop.

    A relative bound is a share of the digital network's value on the samples that the run uses for decisions. The digital
    network is evaluated for a relative bound only.

    Args:
        task: Task with model, data and metric.
        settings: Settings of the run, as returned by `choose_bound`.

    Raises:
        ConfigError: The bound is relative, and the value of the digital network is zero or not finite.
    """
    search: SearchSpec = settings.search
    if search.max_drop is None:
        return 1.0 if search.max_drop_pp is None else search.max_drop_pp
    bound, where = parse_bound(search.max_drop), "search.max_drop"
    if not bound.is_relative(task.metric, where):
        return bound.amount
    digital = 1.0 if task.metric.kind == "perplexity" else measure_digital(task, settings)
    return bound.to_drop(task.metric, digital, where)


def recall_max_drop(task: Task, settings: MapSettings, journal: Journal, found: float | None = None) -> float:
    """Return the largest drop that a run allows, like `find_max_drop`. After a resume, the journal contains a relative bound.

    Args:
        task: Task with model, data and metric.
        settings: Settings of the run, as returned by `choose_bound`.
        journal: Journal of the run, in which the drop is recorded if the bound is relative.
        found: Result of `find_max_drop`, if it is known already; None = it is computed if the journal does not contain it.
    """

    def compute() -> float:
        return find_max_drop(task, settings) if found is None else found

    given = settings.search.max_drop
    if given is None or not parse_bound(given).is_relative(task.metric, "search.max_drop"):
        return compute()
    recalled: float = journal.once("bound", float, compute)
    return recalled


def find_bounds(task: Task, settings: MapSettings, digital: float) -> list[tuple[float, str | None]]:
    """Return the bounds of a Pareto front in the unit of the metric's drop, in ascending order.

    Args:
        task: Task with model, data and metric.
        settings: Settings of the run, as returned by `choose_bounds`.
        digital: Score of the digital network.

    Returns:
        For each bound, the largest drop and the text of a relative bound; None for an absolute bound.

    Raises:
        ConfigError: A bound is relative, and the value of the digital network is zero or not finite.
    """
    pareto: ParetoSpec = settings.pareto
    if pareto.bounds is None:
        return [(bound, None) for bound in sorted(set(pareto.bounds_pp or ()))]
    found: dict[float, str | None] = {}
    for text in pareto.bounds:
        bound = parse_bound(text)
        if bound.is_relative(task.metric, "pareto.bounds"):
            found[bound.to_drop(task.metric, digital, "pareto.bounds")] = str(bound)
        else:
            found[bound.amount] = None
    return sorted(found.items(), key=lambda pair: pair[0])


def check_bounds(task: Task, settings: MapSettings) -> None:
    """Check that the relative bounds of a Pareto front can be found. The digital network is evaluated only for such bounds.

    Raises:
        ConfigError: A bound is relative, and the value of the digital network is zero or not finite.
    """
    given = settings.pareto.bounds or ()
    if task.metric.kind != "perplexity" and any(
        parse_bound(bound).is_relative(task.metric, "pareto.bounds") for bound in given
    ):
        samples = take_samples(task.validation, settings.search.validation_samples)
        find_bounds(task, settings, evaluate_accuracy(task.model, samples, task.metric))


def measure_digital(task: Task, settings: MapSettings) -> float:
    """Return the score of the task's digital network on the validation samples that the run uses for decisions."""
    batches, _ = split_validation(task, settings)
    return evaluate_accuracy(task.model, batches, task.metric)


def _one(value: Any) -> tuple[Any, ...] | None:
    return None if value is None else (value,)


def _choose(where: str, general: Sequence[Any] | None, pp: Sequence[float] | None, metric: Metric) -> list[Bound]:
    """Return the bounds that the settings give, or the default bounds. The units are checked."""
    if pp is not None and metric.kind == "plain":
        raise ConfigError(
            f"{where}_pp: got {', '.join(f'{each:g}' for each in pp)} in percentage points, but a drop of the {metric.name} "
            f"has the unit {metric.drop_unit!r}",
            hint=f"give {where.partition('.')[2]} instead, in {metric.drop_unit} (0.1) or as a share of the digital value "
            "('2 % rel')",
        )
    if general is None and pp is None:
        unit = "% rel" if metric.kind == "plain" else ""
        return [Bound(amount, unit) for amount in _DEFAULTS[where.partition(".")[2]]]
    bounds = [parse_bound(each) for each in general or pp or ()]
    for bound in bounds:
        bound.is_relative(metric, where)
    return bounds


def _write(name: str, bounds: Sequence[Bound], metric: Metric, *, single: bool) -> dict[str, Any]:
    """Return the two settings of bounds, one of which is None: in pp for absolute bounds of a share or a perplexity."""
    in_pp = metric.kind != "plain" and not any(bound.is_relative(metric, name) for bound in bounds)
    values = [bound.amount if in_pp or not bound.unit else str(bound) for bound in bounds]
    found: Any = values[0] if single else tuple(values)
    return {name: None if in_pp else found, f"{name}_pp": found if in_pp else None}
