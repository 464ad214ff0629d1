"""One contract for every registered technology, present and future: they are found from the registry."""

import json
import math

import pytest
import torch
from device_examples import example, example_of, seeded, silence, targets
from torch import Tensor

from lionheart.analog.crossbar import program_crossbar, read_crossbar
from lionheart.constants import KINDS, load_constants
from lionheart.devices import (
    DEVICES,
    DeviceSpec,
    TileSpec,
)
from lionheart.errors import ConfigError


@pytest.mark.parametrize("technology", DEVICES)
class TestContract:
    """What holds for every technology, present and future: they are found from the registry."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", [(1,), (7, 5), (2, 3, 4)])
    def test_shape_dtype_and_sign(self, technology: str, shape: tuple[int, ...], dtype: torch.dtype):
        model, device = example(technology)
        g_target = targets(*shape, dtype=dtype)
        before = g_target.clone()
        g_programmed, state = model.program(g_target, device, generator=seeded())
        g_read = model.read(
            g_programmed, state, device, t_inference=example_of(technology).t_inference, generator=seeded()
        )
        for result in (g_programmed, g_read):
            assert result.shape == g_target.shape
            assert (result >= example_of(technology).lowest).all()
        assert state.shape[-len(shape) :] == g_target.shape
        for result in (g_programmed, state, g_read):
            assert result.dtype == dtype
            assert torch.isfinite(result).all()
        assert torch.equal(g_target, before)  # the targets are the caller's

    def test_read_leaves_the_programmed_state_alone(self, technology: str):
        model, device = example(technology)
        g_programmed, state = model.program(targets(50), device, generator=seeded())
        kept = g_programmed.clone(), state.clone()
        model.read(g_programmed, state, device, t_inference=example_of(technology).t_inference, generator=seeded())
        assert torch.equal(g_programmed, kept[0])
        assert torch.equal(state, kept[1])

    def test_same_generator_same_chip(self, technology: str):
        model, device = example(technology)
        g_target = targets(40, 30)

        def chip(seed: int) -> tuple[Tensor, ...]:
            generator, t_inference = seeded(seed), example_of(technology).t_inference
            g_programmed, state = model.program(g_target, device, generator=generator)
            read = model.read(g_programmed, state, device, t_inference=t_inference, generator=generator)
            return g_programmed, state, read

        for one, other in zip(chip(5), chip(5), strict=True):
            assert torch.equal(one, other)

    def test_other_generators_draw_independently(self, technology: str):
        model, device = example(technology)
        g_target = torch.full((20_000,), 12.5)
        one, other = (model.program(g_target, device, generator=seeded(seed))[0] for seed in (5, 6))
        if not example_of(technology).programs_randomly:
            assert torch.equal(one, other)
            return
        correlation = float(torch.corrcoef(torch.stack([one, other]))[0, 1])
        assert abs(correlation) < 4 / math.sqrt(len(g_target))

    def test_reads_draw_independently_of_programming(self, technology: str):
        model, device = example(technology)
        g_target = torch.full((20_000,), 12.5)
        g_programmed, state = model.program(g_target, device, generator=seeded())
        generator, t_inference = seeded(2), example_of(technology).t_inference
        reads = [
            model.read(g_programmed, state, device, t_inference=t_inference, generator=generator) for _ in range(2)
        ]
        if not example_of(technology).reads_randomly:
            assert torch.equal(*reads)
            return
        change = reads[1] - reads[0]  # what only reading draws
        correlation = float(torch.corrcoef(torch.stack([g_programmed, change]))[0, 1])
        assert float(change.std()) > 0
        assert abs(correlation) < 4 / math.sqrt(len(g_target))

    def test_global_random_state_is_not_touched(self, technology: str):
        model, device = example(technology)
        before = torch.random.get_rng_state()
        g_programmed, state = model.program(targets(9), device, generator=seeded())
        model.read(g_programmed, state, device, t_inference=example_of(technology).t_inference, generator=seeded())
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_switched_off_is_clean(self, technology: str):
        special = example_of(technology)
        model, device = example(technology, **silence(technology))
        g_target = targets(33, 7)
        g_programmed, state = model.program(g_target, device, generator=seeded())
        g_read = model.read(g_programmed, state, device, t_inference=special.t_inference, generator=seeded())
        for result in (g_programmed, g_read):
            torch.testing.assert_close(result, g_target, rtol=0, atol=special.tolerance)

    @pytest.mark.parametrize("t_inference", [-1.0, math.nan, math.inf])
    def test_impossible_times_are_refused(self, technology: str, t_inference: float):
        model, device = example(technology)
        g_programmed, state = model.program(targets(3), device, generator=seeded())
        if technology != "ideal":  # time means nothing to it
            with pytest.raises(ConfigError, match="t_inference"):
                model.read(g_programmed, state, device, t_inference=t_inference, generator=seeded())

    def test_spec_survives_json_alone_and_in_a_tile(self, technology: str):
        _, device = example(technology, stuck_on=0.01)
        data = json.loads(json.dumps(device.to_json()))
        assert data["technology"] == technology
        assert set(data) == {*type(device).model_fields, "schema_version"}
        assert DeviceSpec.from_json(data) == device == type(device).from_json(data)
        tile = TileSpec(device=device)
        again = TileSpec.from_json(json.loads(json.dumps(tile.to_json())))
        assert again == tile
        assert type(again.device) is type(device)
        assert again.replace(rows=3).device == device

    def test_settings_of_other_technologies_are_refused(self, technology: str):
        foreign = {"drift_nu_mean", "drift_table", "noise", "acceptance", "targets", "t_read", "read_noise"}
        for name in foreign - set(DEVICES.find(technology).spec.model_fields):
            with pytest.raises(ConfigError, match=f"{name}: unknown setting"):
                example(technology, **{name: 1.0})

    def test_many_crossbars_at_once_are_crossbars_of_their_own(self, technology: str):
        t_inference = example_of(technology).t_inference
        _, device = example(technology, **silence(technology))
        weights = torch.randn(3, 2, 5, 4, generator=seeded()) * torch.tensor([1.0, 10.0, 0.1]).view(3, 1, 1, 1)
        chips = program_crossbar(weights, device, generator=seeded())
        read = read_crossbar(chips, device, t_inference=t_inference, generator=seeded())
        torch.testing.assert_close(chips.weights, weights, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(read, weights, rtol=1e-4, atol=1e-5)

    def test_nothing_has_happened_when_programming_ends(self, technology: str):
        model, device = example(technology, **silence(technology))
        g_programmed, state = model.program(targets(20), device, generator=seeded())
        if technology == "reram_wan2022":  # nothing was measured before 1 s
            with pytest.raises(ConfigError, match="t_inference"):
                model.read(g_programmed, state, device, t_inference=0.0, generator=seeded())
            return
        assert torch.equal(model.read(g_programmed, state, device, t_inference=0.0, generator=seeded()), g_programmed)

    def test_mean_over_reads_shrinks_with_their_root(self, technology: str):
        special = example_of(technology)
        if not special.reads_randomly:
            return
        model, device = example(technology)
        g = torch.full((4000,), 12.5)
        state, generator = g if special.state_is_target else torch.zeros_like(g), seeded()
        reads = torch.stack(
            [model.read(g, state, device, t_inference=special.t_inference, generator=generator) for _ in range(64)]
        )
        for n in (4, 16, 64):
            assert float(reads[:n].mean(dim=0).std()) == pytest.approx(float(reads[0].std()) / math.sqrt(n), rel=0.05)

    def test_settings_and_constants_say_what_they_are(self, technology: str):
        spec = DEVICES.find(technology).spec
        assert spec.summary
        assert all(each.description for each in spec.model_fields.values())
        if spec.constants_file is None:
            return
        constants = load_constants("lionheart.devices", spec.constants_file)
        assert constants
        for name, constant in constants.items():
            assert constant.unit.strip(), name
            assert constant.source.strip(), name
            assert constant.kind in KINDS, name
            default = spec.model_fields[name].default if name in spec.model_fields else None
            if default is not None:
                assert default == (tuple(constant.value) if isinstance(constant.value, list) else constant.value), name
