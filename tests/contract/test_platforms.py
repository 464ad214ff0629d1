"""What every shipped platform keeps; a new one is a file of `lionheart.system.platforms` and is tested without more work."""

import pytest
from platform_cases import GRAPH, estimate

from lionheart.constants import KINDS
from lionheart.devices import TileSpec
from lionheart.mapping import LayerMapping
from lionheart.partition import partition_graph
from lionheart.runs.costs import SystemRecord
from lionheart.system import (
    CoresRequest,
    PlatformSpec,
    compare_on_cores,
    estimate_system,
    load_platform,
    platform_constants,
    platform_names,
)


@pytest.mark.parametrize("name", platform_names())
def test_every_platform_is_whole_and_described(name: str) -> None:
    platform = load_platform(name)
    assert 0 < len(platform.description) <= 60
    assert PlatformSpec.from_json(platform.to_json()) == platform
    for key, constant in platform_constants(name).items():
        assert constant.source.strip(), key
        assert constant.kind in KINDS, key


@pytest.mark.parametrize("name", platform_names())
def test_half_the_clock_never_shortens_time(name: str) -> None:
    platform = load_platform(name)
    slow = platform.replace(clock_hz=platform.clock_hz / 2)
    for analog in ((), ("a",), ("a", "b")):
        assert estimate(slow, analog).mapped.latency_s >= estimate(platform, analog).mapped.latency_s


@pytest.mark.parametrize("name", platform_names())
@pytest.mark.parametrize("count_memory_controller", [False, True])
def test_the_breakdown_adds_up(name: str, count_memory_controller: bool) -> None:
    mapping = LayerMapping.from_analog(GRAPH, ["a"])
    found = estimate_system(GRAPH, mapping, load_platform(name), count_memory_controller=count_memory_controller)
    for rows, total in ((found.layers, found.mapped), (found.digital_layers, found.all_digital)):
        costs = [row.cost for row in (*rows, *found.other_ops)]
        for part in ("time_s", "energy"):
            components = getattr(total, part)
            for key, value in components.items():
                assert value == pytest.approx(sum(getattr(cost, part).get(key, 0.0) for cost in costs))
        assert total.latency_s == pytest.approx(sum(total.time_s.values()))
        assert total.energy_j == pytest.approx(sum(total.energy.values()))
        assert ("memory_controller" in total.energy) == count_memory_controller


@pytest.mark.parametrize("name", platform_names())
def test_no_tiles_is_all_digital(name: str) -> None:
    found = estimate(load_platform(name).replace(n_tiles=0), ())
    assert (found.speedup, found.energy_gain, found.n_tiles, found.tiles_missing) == (1.0, 1.0, 0, 0)
    assert not any(key.startswith("tile_") for key in found.mapped.energy)
    assert found.programming.energy_j == 0


@pytest.mark.parametrize("name", platform_names())
def test_products_on_tiles_are_never_free(name: str) -> None:
    for row in estimate(load_platform(name)).layers:
        assert all(row.cost.energy[f"tile_{part}"] > 0 for part in ("array", "adc", "dac"))
        assert row.cost.time_s["process"] > 0


@pytest.mark.parametrize("name", platform_names())
def test_what_is_written_is_read(name: str) -> None:
    platform = load_platform(name)
    mapping = LayerMapping.from_analog(GRAPH, ["a"])
    found = estimate(platform, ("a",)).summary()
    cores = CoresRequest(n_cores=1, n_inferences=2, max_tiles=4)
    pipeline = compare_on_cores(GRAPH, mapping, platform, partition_graph(GRAPH, TileSpec()), cores).summary()
    assert "pipeline" not in found.to_json()
    for record in (found, found.replace(pipeline=pipeline)):
        assert SystemRecord.from_json(record.to_json(), "system") == record
    assert found.mapped.latency_s == pytest.approx(sum(found.mapped.time_breakdown_s.values()))
    assert found.speedup == found.all_digital.latency_s / found.mapped.latency_s
