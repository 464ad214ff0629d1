"""Comparison of reference reads that compensate drift, for weights with and without outliers.

For each type of weights, size of a tile and time the script programs chips and measures two quantities. The gain is the
regression of the read weights, times the compensation factor, on the exact weights: the fraction of the outputs that is left.
The error is the root mean square of the difference of both, relative to the exact weights: that of outputs for white inputs.
Prints Markdown tables. Run: python benchmarks/studies/drift_compensation.py
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from lionheart import TileSpec
from lionheart.analog.converters import read_columns
from lionheart.analog.crossbar import program_crossbar, read_crossbar
from lionheart.analog.readout import SMALLEST_READOUT, reference_read
from lionheart.analog.reference import choose_reference, exact_gain, take_sign_reference
from lionheart.units import format_duration

WEIGHTS = ("plain", "10 sigma", "40 sigma", "zeros", "half 40 sigma")
TILES = ((256, 256), (512, 512), (9, 64), (256, 10), (64, 1))
TIMES = (1.0, 3600.0, 86_400.0, 30 * 86_400.0, 365 * 86_400.0)
Method = Callable[["Chip"], Tensor]


def draw_weights(kind: str, rows: int, cols: int, generator: torch.Generator) -> Tensor:
    """Return weights ``(cols, rows)``, each column divided by its largest."""
    weights = torch.randn(cols, rows, generator=generator)
    columns, places = torch.arange(cols), torch.randint(rows, (cols,), generator=generator)
    if kind.endswith("40 sigma") or kind == "10 sigma":
        outliers = columns[: (cols + 1) // 2] if kind.startswith("half") else columns
        weights[outliers, places[outliers]] = 10.0 if kind == "10 sigma" else 40.0
    elif kind == "zeros":
        weights *= torch.rand(cols, rows, generator=generator) < 0.1
    largest = weights.abs().amax(dim=1, keepdim=True)
    return weights / torch.where(largest > 0, largest, 1.0)


class Chip:
    """One programmed tile, read at one time."""

    def __init__(self, exact: Tensor, t_inference: float, tile: TileSpec, generator: torch.Generator) -> None:
        self.exact, self.tile, self.generator = exact, tile, generator
        crossbar = program_crossbar(exact, tile.device, generator=generator)
        self.programmed = crossbar.weights
        self.aged = read_crossbar(crossbar, tile.device, t_inference=t_inference, generator=generator)

    def by_rows(self, compensation: str) -> Tensor:
        tile = self.tile.replace(drift_compensation=compensation)
        young, old = (reference_read(each, tile, self.generator) for each in (self.programmed, self.aged))
        return young / old

    def by_rows_exactly(self) -> Tensor:
        """AIHWKIT 1.1.0, GlobalDriftCompensationWithExactReference: mean of the exact weights over that of a noisy read."""
        return self.exact.abs().mean() / reference_read(self.aged, self.tile, self.generator)

    def by_averaged_rows(self, n: int) -> Tensor:
        young, old = (
            torch.stack([self._read(each) for _ in range(n)]).mean(0).abs().mean()
            for each in (self.programmed, self.aged)
        )
        return young / old.clamp(min=SMALLEST_READOUT)

    def by_least_squares_of_rows(self) -> Tensor:
        return self.exact.square().sum() / (self.exact * self._read(self.aged)).sum()

    def _read(self, weights: Tensor) -> Tensor:
        tile, noise = self.tile, torch.empty_like(weights).normal_(generator=self.generator)
        return read_columns(weights.clone(), noise, tile.output_noise, tile.adc_bits, tile.output_bound)

    def by_signs(self, n: int, compensation: str) -> Tensor:
        tile = self.tile.replace(drift_compensation=compensation, reference_reads=n)
        reference = take_sign_reference(self.exact, self.programmed, tile, self.generator)
        return reference.factor(self.aged, tile, self.generator)

    def by_exact_gain(self, compensation: str) -> Tensor:
        return 1 / exact_gain(self.aged, self.exact, self.tile.replace(drift_compensation=compensation))

    def gain(self, factor: Tensor) -> float:
        return float((factor * self.aged * self.exact).sum() / self.exact.square().sum())

    def error(self, factor: Tensor) -> float:
        return float(((factor * self.aged - self.exact).square().sum() / self.exact.square().sum()).sqrt())


METHODS: dict[str, Method] = {
    "rows (AIHWKIT)": lambda chip: chip.by_rows("global"),
    "rows, exact reference (AIHWKIT 1.1.0)": lambda chip: chip.by_rows_exactly(),
    "rows, mean of 16 reads": lambda chip: chip.by_averaged_rows(16),
    "rows, least squares": lambda chip: chip.by_least_squares_of_rows(),
    "8 signs": lambda chip: chip.by_signs(8, "global"),
    "32 signs": lambda chip: chip.by_signs(32, "global"),
    "128 signs": lambda chip: chip.by_signs(128, "global"),
    "exact gain": lambda chip: chip.by_exact_gain("global"),
    "rows, per column (AIHWKIT)": lambda chip: chip.by_rows("per_column"),
    "8 signs, per column": lambda chip: chip.by_signs(8, "per_column"),
    "32 signs, per column": lambda chip: chip.by_signs(32, "per_column"),
    "exact gain, per column": lambda chip: chip.by_exact_gain("per_column"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tile = TileSpec.pcm()
    for rows, cols in TILES:
        for kind in WEIGHTS:
            exact = draw_weights(kind, rows, cols, torch.Generator().manual_seed(args.seed))
            chosen = ", ".join(
                f"{compensation}: {choose_reference(exact, tile.replace(drift_compensation=compensation))}"
                for compensation in ("global", "per_column")
            )
            print(f"\n{kind}, {rows} x {cols} (auto chooses {chosen}):\n")
            print("| read | " + " | ".join(format_duration(t) for t in TIMES) + " |\n|---" + "|---" * len(TIMES) + "|")
            chips = {
                t: [
                    Chip(exact, t, tile, torch.Generator().manual_seed(1000 * (args.seed + 1) + number))
                    for number in range(args.chips)
                ]
                for t in TIMES
            }
            for name, method in METHODS.items():
                cells = []
                for each in chips.values():
                    factors = [method(chip) for chip in each]
                    gains = [chip.gain(factor) for chip, factor in zip(each, factors, strict=True)]
                    errors = [chip.error(factor) for chip, factor in zip(each, factors, strict=True)]
                    spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
                    cells.append(f"{statistics.mean(gains):.3f} ± {spread:.3f}; {statistics.mean(errors):.3f}")
                print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
