"""Conversion between LionHeart's `DeviceSpec` and AIHWKIT's noise models and conductance converters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aihwkit.inference import (
    CustomDriftPCMLikeNoiseModel,
    PCMLikeNoiseModel,
    ReRamCMONoiseModel,
    ReRamWan2022NoiseModel,
)
from aihwkit.inference.converter.conductance import (
    CustomPairConductanceConverter,
    DualPairConductanceConverter,
    NPairConductanceConverter,
    SingleDeviceConductanceConverter,
    SinglePairConductanceConverter,
)
from aihwkit.inference.noise.custom import StateIndependentNoiseModel

from lionheart.devices import (
    CustomPairConverter,
    DeviceSpec,
    PairConverter,
    PCMCustomDriftSpec,
    PCMNoise,
    ReRAMCMOSpec,
    ReRAMWan2022Spec,
    SingleConverter,
)

_CMO_ACCEPTANCE = (0.2, 2.0)


def write_converter(device: DeviceSpec) -> Any:
    """Return the AIHWKIT conductance converter that corresponds to the settings of `device`."""
    converter, limits = device.converter, {"g_max": device.g_max, "g_min": device.g_min}
    if isinstance(converter, SingleConverter):
        return SingleDeviceConductanceConverter(**limits)
    if isinstance(converter, CustomPairConverter):
        tables = [list(t) for pair in zip(converter.g_plus, converter.g_minus, strict=True) for t in pair]
        return CustomPairConductanceConverter(f_lst=list(converter.significance), g_lst=tables, **limits)
    factors = list(converter.significance)
    if factors == [1.0]:
        return SinglePairConductanceConverter(**limits)
    kind = DualPairConductanceConverter if len(factors) == 2 else NPairConductanceConverter
    return kind(f_lst=factors, **limits)


def read_converter(converter: Any) -> dict[str, Any]:
    """Return the `DeviceSpec` settings that correspond to an AIHWKIT conductance converter.

    The settings are the conductance limits and the converter, in a dictionary from `DeviceSpec` field names to values.
    """
    settings: dict[str, Any] = {"g_max": float(converter.g_max), "g_min": float(converter.g_min)}
    if isinstance(converter, SingleDeviceConductanceConverter):
        settings["converter"] = SingleConverter()
    elif isinstance(converter, CustomPairConductanceConverter):
        tables = [tuple(map(float, table)) for table in converter.g_lst]
        settings["converter"] = CustomPairConverter(
            significance=tuple(map(float, converter.f_lst)), g_plus=tuple(tables[::2]), g_minus=tuple(tables[1::2])
        )
    elif isinstance(converter, NPairConductanceConverter):
        settings["converter"] = PairConverter(significance=tuple(map(float, converter.f_lst)))
    elif isinstance(converter, SinglePairConductanceConverter):
        settings["converter"] = PairConverter()
    return settings


def write_noise_model(device: DeviceSpec) -> Any:
    """Return AIHWKIT's noise model for the technology of `device`, with the settings of `device`.

    If AIHWKIT has no noise model for this technology, return a model without noise.
    """
    converter = write_converter(device)
    if isinstance(device, PCMNoise):
        kind: Callable[..., Any] = PCMLikeNoiseModel
        if isinstance(device, PCMCustomDriftSpec):
            g, mean, sigma = (list(column) for column in zip(*device.drift_table, strict=True))
            table = {"g_lst": g, "nu_mean_lst": mean, "nu_std_lst": sigma}

            def kind(**settings: Any) -> Any:
                return CustomDriftPCMLikeNoiseModel(table, **settings)

        model = kind(
            prog_coeff=list(device.programming_noise),
            g_converter=converter,
            t_read=device.t_read,
            t_0=device.t_0,
            prog_noise_scale=device.programming_noise_scale,
            read_noise_scale=device.read_noise_scale,
            drift_scale=device.drift_scale,
        )
        model.prog_coeff_g_max_reference = (
            device.g_max_of_fit
        )  # AIHWKIT ignores the constructor argument with this name
        return model
    if isinstance(device, ReRAMWan2022Spec):
        coefficients = {time: list(row) for time, row in zip(device.times, device.noise, strict=True)}
        model = ReRamWan2022NoiseModel(coefficients, converter, noise_scale=device.noise_scale)
        model.coeff_g_max_reference = device.g_max if device.g_max_of_fit is None else device.g_max_of_fit
        return model
    if isinstance(device, ReRAMCMOSpec):
        model = ReRamCMONoiseModel(
            coeff_dict={device.acceptance: list(device.programming_coefficients())},
            g_max=device.g_max,
            g_min=device.g_min,
            prog_noise_scale=device.programming_noise_scale,
            read_noise_scale=device.read_noise_scale,
            drift_scale=device.drift_scale,
            decay_dict={"mean": [device.relaxation_mean], "std": list(device.relaxation_sigma)},
            read_dict={"K": device.read_noise, "t_read": device.t_read},
            acceptance_range=device.acceptance,
        )
        model.g_converter = converter
        return model
    return StateIndependentNoiseModel(converter, prog_noise_scale=0.0, drift_scale=0.0, read_noise_scale=0.0)


def read_noise_model(model: Any) -> DeviceSpec:
    """Return the `DeviceSpec` for the technology of an AIHWKIT noise model, with the settings of the noise model.

    If LionHeart has no counterpart of the noise model, return a device without noise and drift.
    """
    settings = read_converter(model.g_converter)
    if type(model) in (PCMLikeNoiseModel, CustomDriftPCMLikeNoiseModel):
        settings |= {
            "programming_noise": tuple(map(float, model.prog_coeff)),
            "programming_noise_scale": float(model.prog_noise_scale),
            "g_max_of_fit": float(getattr(model, "prog_coeff_g_max_reference", model.g_max)),
            "drift_scale": float(model.drift_scale),
            "read_noise_scale": float(model.read_noise_scale),
            "t_0": float(model.t_0),
            "t_read": float(model.t_read),
        }
        if type(model) is PCMLikeNoiseModel:
            return DeviceSpec.pcm(**settings)
        table = model.custom_drift_model
        rows = zip(table["g_lst"], table["nu_mean_lst"], table["nu_std_lst"], strict=True)
        return DeviceSpec.pcm_custom_drift(drift_table=tuple(tuple(map(float, row)) for row in rows), **settings)
    if type(model) is ReRamWan2022NoiseModel:
        times = sorted(model.coeff_dic)
        reference = float(getattr(model, "coeff_g_max_reference", model.g_max))
        return DeviceSpec.reram_wan2022(
            times=tuple(map(float, times)),
            noise=tuple(tuple(map(float, model.coeff_dic[time])) for time in times),
            noise_scale=float(model.noise_scale),
            g_max_of_fit=None if reference == settings["g_max"] else reference,
            **settings,
        )
    if type(model) is ReRamCMONoiseModel:
        return _read_cmo(model, settings)
    return DeviceSpec.ideal(**settings)


def _read_cmo(model: Any, settings: dict[str, Any]) -> DeviceSpec:
    coefficients = tuple(map(float, model.coeff_dict[model.acceptance_range]))
    known = {DeviceSpec.reram_cmo(acceptance=a).programming_coefficients(): a for a in _CMO_ACCEPTANCE}  # type: ignore[attr-defined]
    if coefficients in known:
        settings["acceptance"] = known[coefficients]
    else:
        settings["programming_noise"] = coefficients
    return DeviceSpec.reram_cmo(
        programming_noise_scale=float(model.prog_noise_scale),
        read_noise_scale=float(model.read_noise_scale),
        drift_scale=float(model.drift_scale),
        relaxation_mean=float(model.decay_dict["mean"][0]),
        relaxation_sigma=tuple(map(float, model.decay_dict["std"])),
        read_noise=float(model.read_dict["K"]),
        t_read=float(model.read_dict["t_read"]),
        **settings,
    )


def describe_noise_model(model: Any) -> dict[str, Any]:
    """Return the fields of an AIHWKIT noise model that affect the simulated conductances, as a dictionary by field name.

    The key ``""`` holds the class name of the noise model. Keys that start with ``g_converter`` describe the conductance
    converter.
    """
    fields: dict[str, Any] = {"": type(model).__name__}
    converter = model.g_converter
    fields["g_converter"] = type(converter).__name__
    if type(converter) is NPairConductanceConverter and len(converter.f_lst) == 2:
        fields["g_converter"] = DualPairConductanceConverter.__name__  # both classes give equal results
    fields |= {f"g_converter.{name}": v for name, v in vars(converter).items() if name != "scale_ratio"}
    skipped = {"g_converter", "g_max", "g_min"}
    if type(model) is ReRamWan2022NoiseModel:
        skipped.add("prog_coeff_g_max_reference")  # AIHWKIT never reads this field
        fields["coeff_g_max_reference"] = getattr(model, "coeff_g_max_reference", model.g_max)
    elif type(model) is ReRamCMONoiseModel:
        skipped |= {"coeff_dict", "acceptance_range"}
        fields["coeff_dict"] = model.coeff_dict[model.acceptance_range]
    fields |= {name: value for name, value in vars(model).items() if name not in skipped}
    if type(model) is StateIndependentNoiseModel and not (
        model.prog_noise_scale or model.drift_scale or model.read_noise_scale
    ):  # without noise the other fields have no effect
        return {name: v for name, v in fields.items() if name.partition(".")[0] in ("", "g_converter")}
    return fields
