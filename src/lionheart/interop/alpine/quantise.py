"""Conversion of a floating-point program to integer arithmetic: quantisation scales, weights, biases and converters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lionheart.errors import ConfigError, NumericsError, UnsupportedLayerError, suggest
from lionheart.interop.alpine.converters import TileConverters
from lionheart.interop.alpine.fixed_point import (
    PARTIAL_SUM_STEPS,
    Int8s,
    gather_patches,
    quantise_input,
    slide,
    to_fixed_point,
)
from lionheart.interop.alpine.operations import Add, Clamp, Floats, Operation, Place, Pool, Product, Program
from lionheart.interop.alpine.quantised import (
    CHUNK,
    QuantisedAdd,
    QuantisedClamp,
    QuantisedPlace,
    QuantisedPool,
    QuantisedProduct,
    QuantisedProgram,
    Step,
    as_shape,
    run_step,
)
from lionheart.interop.alpine.tiles import Tiles, dac_codes, place_on_tiles, tile_sums
from lionheart.mapping import LayerMapping
from lionheart.partition import TilePartition, partition_matrix

_LARGEST_BIAS = 2**20  # in units of (input step x weight step)


def quantise_program(
    program: Program,
    mapping: LayerMapping | None = None,
    *,
    tile_rows: int = 256,
    tile_cols: int = 256,
    converters: Mapping[str, TileConverters] | None = None,
) -> QuantisedProgram:
    """Convert a network to integer arithmetic. Projections that are analog in `mapping` are computed on tiles without noise.

    Args:
        program: Floating-point program from `trace_program`.
        mapping: Placements of the projections (weight matrices); None makes all projections digital.
        tile_rows: Number of inputs of a tile.
        tile_cols: Number of outputs of a tile.
        converters: Converters of the run, by projection. Inputs are clipped and sums saturate where they do in the run. None =
            inputs are not clipped, and the ADC scale is chosen so that no sum of the calibration samples saturates.

    Raises:
        ConfigError: An analog projection in the mapping is not in the program.
        UnsupportedLayerError: An analog projection runs more than once per inference.
        NumericsError: A bias or a ratio of two scales exceeds the range of the integer arithmetic.
    """
    analog = _check_analog(program, mapping)
    used = {fqn: each for fqn, each in (converters or {}).items() if fqn in analog}
    wanted = _find_wanted_ranges(program, used)
    ranges = program.ranges if converters is None else {program.source: program.ranges[program.source]}
    scales = {program.source: _scale(wanted.get(program.source) or ranges[program.source])}
    values = {program.source: quantise_input(program.samples, np.float32(1.0 / scales[program.source]))}
    steps: list[Step] = []
    for operation in program.operations:
        inputs = [values[name] for name in operation.inputs]
        largest = wanted.get(operation.name) or ranges.get(operation.name)
        step: Step
        if isinstance(operation, Product):
            partition = None
            if operation.fqn in analog:
                partition = partition_matrix(operation.rows, operation.cols, operation.groups, tile_rows, tile_cols)
            step, scale = _quantise_product(
                operation, scales[operation.inputs[0]], partition, inputs[0], used.get(operation.fqn), largest
            )
            scales[operation.name] = scale
        else:
            if _keeps_scale(operation):
                scales[operation.name] = scales[operation.inputs[0]]
            else:
                found = largest if largest is not None else _measure(operation, scales, inputs)
                scales[operation.name] = _scale(found)
            step = _quantise_other(operation, scales)
        values[operation.name] = run_step(step, values)
        steps.append(step)
    return QuantisedProgram(program, tuple(steps), scales, tile_rows, tile_cols)


def _check_analog(program: Program, mapping: LayerMapping | None) -> set[str]:
    names = [op.fqn for op in program.operations if isinstance(op, Product) and op.fqn]
    analog = set(mapping.analog) if mapping is not None else set()
    for fqn in sorted(analog):
        if fqn not in names:
            raise ConfigError(
                f"export: mapping: got {fqn!r} as an analog layer, expected the name of a layer in the network",
                hint=suggest(fqn, names, label="layers"),
            )
        if names.count(fqn) > 1:
            raise UnsupportedLayerError(
                f"export: {fqn!r}: this analog layer runs {names.count(fqn)} times in one inference, expected once",
                hint="make this layer digital in the mapping",
            )
    return analog


def _keeps_scale(op: Operation) -> bool:
    """Return whether the output of an operation has the same scale as its input."""
    return isinstance(op, (Clamp, Place)) or (isinstance(op, Pool) and op.is_max)


def _find_wanted_ranges(program: Program, converters: Mapping[str, TileConverters]) -> dict[str, float]:
    """Return the largest magnitude of each value that only DACs read, by name: the largest input range of these DACs."""
    readers: dict[str, list[Operation]] = {}
    for op in program.operations:
        for name in op.inputs:
            readers.setdefault(name, []).append(op)
    wanted: dict[str, float] = {}
    for name in reversed([program.source, *(op.name for op in program.operations)]):
        found = [
            wanted.get(op.name) if _keeps_scale(op) else _dac_range(op, converters) for op in readers.get(name, [])
        ]
        ranges = [each for each in found if each is not None]
        if ranges and len(ranges) == len(found) and name != program.result:
            wanted[name] = max(ranges)
    return wanted


def _dac_range(op: Operation, converters: Mapping[str, TileConverters]) -> float | None:
    own = converters.get(op.fqn) if isinstance(op, Product) else None
    return own.input_range if own is not None and own.clips_inputs else None


def _measure(op: Operation, scales: Mapping[str, float], inputs: list[Int8s]) -> float:
    """Return the largest magnitude of the exact output of an addition or average pooling for int8 inputs."""
    factors = [scales[name] for name in op.inputs]
    if isinstance(op, Pool):
        windows = slide(inputs[0], op.window, fill=0)
        out = windows.mean(axis=(3, 4), dtype=np.float64) * factors[0]
    else:
        out = sum((x.astype(np.float64) * factor for x, factor in zip(inputs, factors, strict=True)), np.float64(0))
    return float(np.abs(np.clip(out, *getattr(op, "bounds", (-math.inf, math.inf)))).max(initial=0.0))


def _scale(largest: float) -> float:
    return largest / 127 if largest > 0 else 1.0


def _bounds(bounds: tuple[float, float], scale: float) -> tuple[int, int]:
    low, high = (int(np.clip(np.rint(np.clip(bound / scale, -1e6, 1e6)), -128, 127)) for bound in bounds)
    return low, high


def _quantise_product(
    op: Product,
    scale_in: float,
    partition: TilePartition | None,
    inputs: Int8s,
    converters: TileConverters | None,
    largest: float | None,
) -> tuple[QuantisedProduct, float]:
    """Return the quantised product and the scale of its outputs; `largest` None = the largest output for `inputs`."""
    if partition is not None and converters is not None and converters.saturates:
        weights, unit, tiles = place_on_tiles(op, scale_in, partition, converters)
        own_tiles: Tiles | None = tiles
    else:
        weights, unit, own_tiles = _place_evenly(op, scale_in, partition, inputs, converters)
    bias = np.rint(op.bias / unit)
    if np.abs(bias).max(initial=0) >= 2**30:
        raise NumericsError(
            f"{op.fqn or op.name}: got a bias of magnitude {np.abs(bias).max() / PARTIAL_SUM_STEPS:.3g} ADC steps, "
            "expected less than 2^22",
            hint="make this layer digital in the mapping",
        )
    ones = np.ones(len(bias), np.int32)
    step = QuantisedProduct(op, weights, bias.astype(np.int32), ones, ones, (-128, 127), own_tiles)
    if largest is None:
        largest = float(np.abs(np.clip(step.sum(inputs) * unit, *op.bounds)).max(initial=0.0))
    scale_out = _scale(largest)
    pairs = [to_fixed_point(float(factor)) for factor in unit / scale_out]
    multiplier, shift = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
    return replace(step, multiplier=multiplier, shift=shift, bounds=_bounds(op.bounds, scale_out)), scale_out


def _place_evenly(
    op: Product,
    scale_in: float,
    partition: TilePartition | None,
    inputs: Int8s,
    converters: TileConverters | None,
) -> tuple[Int8s, Floats, Tiles | None]:
    """Quantise the weights of a product, one scale for each output, and choose an ADC scale at which no sum saturates.

    Returns:
        Int8 weights ``(groups, cols, rows)``, the real number that a unit of the sums represents ``(out,)``, and the tiles.
    """
    rescale, code = (None, scale_in) if converters is None else dac_codes(scale_in, converters)
    largest = np.abs(op.weight).reshape(len(op.weight), -1).max(axis=1)
    scale_w = np.maximum(largest / 127, np.abs(op.bias) / (code * _LARGEST_BIAS))
    scale_w = np.where(scale_w > 0, scale_w, 1.0)
    steps = np.rint(op.weight.reshape(len(op.weight), -1) / scale_w[:, None])
    weights = np.clip(steps, -127, 127).astype(np.int8).reshape(op.groups, op.cols, op.rows)
    if partition is None:
        return weights, code * scale_w, None
    tiles = Tiles(partition, 1.0, converters, rescale)
    tiles = replace(tiles, adc_scale=_calibrate_adc(op, weights, partition, tiles.convert_inputs(inputs)))
    return weights, code * scale_w / (tiles.adc_scale * PARTIAL_SUM_STEPS), tiles


def _calibrate_adc(op: Product, weights: Int8s, partition: TilePartition, inputs: Int8s) -> float:
    """Return the factor by which the ADCs of all tiles of a layer multiply the integer sums.

    The factor maps the largest magnitude of the sums over all tiles and calibration inputs to 127.
    """
    largest = 0
    for i in range(0, len(inputs), CHUNK):
        patches = gather_patches(as_shape(inputs[i : i + CHUNK], op.window.source), op.window, op.groups)
        for sums in tile_sums(patches, weights, partition):
            largest = max(largest, int(np.abs(sums).max(initial=0)))
    return 127 / largest if largest > 0 else 1.0


def _quantise_other(op: Operation, scales: Mapping[str, float]) -> Step:
    if isinstance(op, Add):
        factors = [scales[name] / scales[op.name] for name in op.inputs]
        shift = max(1, min(30, 21 - math.frexp(max(factors))[1]))
        if max(factors) * 2**shift >= 2**22:
            raise NumericsError(
                f"{op.name}: the scale of an input is {max(factors):g} times the scale of the sum, expected a ratio below 2^21",
                hint="the inputs of this addition nearly cancel each other; check the weights of the layers that compute them",
            )
        left, right = (round(factor * 2**shift) for factor in factors)
        return QuantisedAdd(op, (left, right), shift, _bounds(op.bounds, scales[op.name]))
    if isinstance(op, Pool):
        kernel_h, kernel_w = op.window.kernel
        factor = 1.0 if op.is_max else scales[op.inputs[0]] / (scales[op.name] * kernel_h * kernel_w)
        return QuantisedPool(op, *to_fixed_point(factor))
    if isinstance(op, Clamp):
        return QuantisedClamp(op, _bounds(op.bounds, scales[op.name]))
    if isinstance(op, Place):
        return QuantisedPlace(op)
    raise UnsupportedLayerError(
        f"{op.module or op.name}: the operation {type(op).__name__!r} cannot be quantised",
        hint="use only the operations Product, Add, Pool, Clamp and Place, as programs from trace_program do",
    )
