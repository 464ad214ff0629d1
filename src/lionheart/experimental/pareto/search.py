"""Search for the Pareto front of accuracy against cost with NSGA-II from Optuna.

This module can be imported only if Optuna is installed.

The mapping of a trial depends on the seed, the number of the trial and the earlier trials, and on no other state of the
process. A resumed study therefore proposes the same mappings as an uninterrupted study. If the storage of a study is lost, the
study can be rebuilt from the recorded measurements.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from lionheart.errors import ArtifactError, ConfigError
from lionheart.experimental.pareto.records import MeasuredMapping
from lionheart.mapping import LayerMapping, Placement
from lionheart.rng import RandomStreams
from lionheart.runs import Accuracy

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.exceptions import StorageInternalError
    from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, Trial, TrialState
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise ConfigError(
        "pareto: optuna is not installed", hint="install it with: pip install 'lionheart-aimc[pareto]'"
    ) from error

_MUTATIONS = 2.0  # average number of redrawn projections of a child; half of them change
_CHOICES = CategoricalDistribution((False, True))


@final
@dataclass(frozen=True)
class FrontProblem:
    """The projections (weight matrices) that a Pareto search may move to tiles, and functions that measure mappings.

    Args:
        candidates: Names of the projections (weight matrices) that may run analog.
        start: Mapping in which all candidates are digital.
        evaluate: Function that measures the accuracy of a mapping.
        cost: Function that returns the cost of a mapping in the unit of the objective. The search minimises the cost.
        keep: Function that is called with every measured mapping before Optuna receives the measurement.
        seeds: Mappings to measure first.
        n_trials: Number of different mappings to measure.
        fit: Function that returns its argument if this mapping is allowed, for example because it fits on the available tiles.
            Otherwise, the function returns an allowed mapping with fewer analog projections.
        n_allowed: Number of allowed mappings; None if all mappings are allowed.
        rank: Function that returns a number which is larger for a better score.
    """

    candidates: Sequence[str]
    start: LayerMapping
    evaluate: Callable[[LayerMapping], Accuracy]
    cost: Callable[[LayerMapping], float]
    keep: Callable[[MeasuredMapping], None]
    seeds: Sequence[LayerMapping]
    n_trials: int
    fit: Callable[[LayerMapping], LayerMapping] = lambda mapping: mapping
    n_allowed: int | None = None
    rank: Callable[[float], float] = lambda score: score


def search_front(
    problem: FrontProblem,
    *,
    streams: RandomStreams,
    storage: RDBStorage,
    study_name: str,
    past: Sequence[MeasuredMapping] = (),
) -> list[MeasuredMapping]:
    """Search for the Pareto front of accuracy against cost, and return all measured mappings.

    The mappings in ``problem.seeds`` are measured first and form the first generation of NSGA-II. The search stops when
    ``problem.n_trials`` different mappings, or all allowed mappings, have been measured. If NSGA-II proposes a mapping that was
    already measured, the mapping is not measured again. The next trial is then a new mapping, which differs from the proposed
    mapping in a few randomly chosen projections (weight matrices).

    Args:
        problem: Projections that may run analog, and functions that measure mappings.
        streams: Random streams of the search.
        storage: Optuna storage of the study.
        study_name: Name of the study. An existing study with this name is continued.
        past: Measurements that were made before the search was resumed.

    Returns:
        All measured mappings in the order of measurement, including `past`.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    candidates, fit = problem.candidates, problem.fit
    study = optuna.create_study(
        storage=storage,
        sampler=_StatelessSampler(candidates, max(2, len(problem.seeds)), streams),
        study_name=study_name,
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )
    measured = {each.mapping.analog: each for each in past}
    wanted = min(problem.n_trials, 2 ** len(candidates) if problem.n_allowed is None else problem.n_allowed)
    for mapping in problem.seeds:
        _enqueue(study, candidates, mapping)
    while len(measured) < wanted:
        trial = _interrupted_trial(study) or study.ask()
        chosen = {fqn: trial.suggest_categorical(fqn, (False, True)) for fqn in candidates}
        mapping = fit(_place(problem.start, candidates, chosen))
        known = measured.get(mapping.analog)
        if known is None:
            begin = time.perf_counter()
            accuracy = problem.evaluate(mapping)
            known = MeasuredMapping(
                number=trial.number,
                mapping=mapping,
                accuracy=accuracy,
                cost=problem.cost(mapping),
                elapsed_s=time.perf_counter() - begin,
            )
            problem.keep(known)
            measured[mapping.analog] = known
        elif known.number != trial.number:
            earlier = {analog for analog, each in measured.items() if each.number < trial.number}
            draw = random.Random(streams.derive_seed("neighbour", trial.number))  # noqa: S311  no secret
            _enqueue(study, candidates, _find_new(mapping, candidates, earlier, draw, fit))
        study.tell(trial, (problem.rank(known.mean), known.cost))
    return list(measured.values())


@contextmanager
def open_storage(url: str) -> Iterator[RDBStorage]:
    """Open an Optuna storage within the context.

    Args:
        url: SQLAlchemy URL, for example ``sqlite:///file.db`` or ``postgresql://user:password@host/database``.

    Raises:
        ConfigError: The storage cannot be opened.
        ArtifactError: An operation on the storage fails within the context.
    """
    shown = hide_password(url)
    try:
        storage = RDBStorage(url)
    except (ImportError, ValueError, RuntimeError, SQLAlchemyError, StorageInternalError) as error:
        raise ConfigError(
            f"storage: {shown} cannot be opened: {_first_line(error)}",
            hint="give a URL such as sqlite:///front.db or postgresql://user:password@host/database; for a server, check "
            "that it runs, that the database exists, and that the driver is installed (pip install 'psycopg[binary]')",
        ) from error
    try:
        yield storage
    except (SQLAlchemyError, StorageInternalError) as error:
        raise ArtifactError(
            f"storage: an operation on {shown} failed: {_first_line(error)}",
            hint="check that the storage can be reached, and continue the run with --resume; no recorded measurement is lost",
        ) from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def check_storage(url: str) -> None:
    """Open an Optuna storage and close it again, to raise the errors of `open_storage` before a search starts."""
    with open_storage(url):
        return


def hide_password(text: str) -> str:
    """Return `text` with each password in a URL replaced by ``***``."""
    text = re.sub(r"(://[^:/@\s]*):[^\s/]*@", r"\1:***@", text)
    return re.sub(r"([?&]password=)[^&\s]*", r"\1***", text)


@final
class _StatelessSampler(BaseSampler):
    """NSGA-II sampler that uses a separate random stream for each trial number and accepts enqueued trials as parents.

    An enqueued trial has a given mapping instead of a mapping that the sampler proposes. The sampler of Optuna does not accept
    enqueued trials as parents. It also draws all numbers from one generator, so a resumed study would draw other numbers than
    an uninterrupted study.
    """

    def __init__(self, names: Sequence[str], population_size: int, streams: RandomStreams) -> None:
        self._names, self._population_size, self._streams = list(names), population_size, streams

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._genetic(trial).get_trial_generation(study, trial)  # stores the generation in the trial

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict.fromkeys(self._names, _CHOICES)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._genetic(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = RandomSampler(seed=self._seed(trial.number, param_name))
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _genetic(self, trial: FrozenTrial) -> NSGAIISampler:
        return NSGAIISampler(
            population_size=self._population_size,
            mutation_prob=min(1.0, _MUTATIONS / max(1, len(self._names))),
            seed=self._seed(trial.number),
        )

    def _seed(self, *path: str | int) -> int:
        return self._streams.derive_seed("trial", *path) % 2**32


def _interrupted_trial(study: optuna.Study) -> Trial | None:
    """Return the trial of the study that a stopped or killed process left unfinished, or None if all trials are finished."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return Trial(study, running[0]._trial_id) if running else None


def _enqueue(study: optuna.Study, candidates: Sequence[str], mapping: LayerMapping) -> None:
    chosen = {fqn: mapping.is_analog(fqn) for fqn in candidates}
    study.enqueue_trial(chosen, skip_if_exists=True)  # the trial exists if the process was killed right after this line


def _place(mapping: LayerMapping, candidates: Sequence[str], is_analog: Mapping[str, bool]) -> LayerMapping:
    placements = {fqn: Placement.ANALOG if is_analog[fqn] else Placement.DIGITAL for fqn in candidates}
    return LayerMapping({**mapping.placements, **placements}, policies=mapping.policies)


def _find_new(
    mapping: LayerMapping,
    candidates: Sequence[str],
    measured: set[tuple[str, ...]],
    draw: random.Random,
    fit: Callable[[LayerMapping], LayerMapping],
) -> LayerMapping:
    """Return an allowed mapping that is not in `measured`, found by a random walk from `mapping`.

    Each step changes the placement of one projection (weight matrix) and is undone if the new mapping is not allowed.

    Args:
        mapping: Start of the walk.
        candidates: Names of the projections whose placement may change.
        measured: Names of the analog projections of each measured mapping.
        draw: Random number generator.
        fit: Function that returns its argument if this mapping is allowed, and another mapping otherwise.
    """
    while mapping.analog in measured:
        is_analog = {fqn: mapping.is_analog(fqn) for fqn in candidates}
        flipped = draw.choice(candidates)
        moved = _place(mapping, candidates, {**is_analog, flipped: not is_analog[flipped]})
        mapping = moved if fit(moved).analog == moved.analog else mapping
    return mapping


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return hide_password((str(cause).strip() or type(cause).__name__).splitlines()[0])
