"""Write the files of an exported program: C++ code, constants, inputs, expected outputs, Makefile, manifest and README."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lionheart.errors import ArtifactError
from lionheart.files import require_free_space, write_atomic, write_json, write_text
from lionheart.interop.alpine.code import LayerCode, Workspace
from lionheart.interop.alpine.layout import Arena, Constants, check_size, place_values, region_id
from lionheart.interop.alpine.manifest import (
    LayerEntry,
    Manifest,
    NetworkRegions,
    ProductEntry,
    ProgramScore,
    TensorEntry,
    TileSize,
)
from lionheart.interop.alpine.quantised import QuantisedProduct, QuantisedProgram
from lionheart.interop.alpine.text import MAIN, MAKEFILE, README

HEADERS = ("lionheart_kernels.h", "aimc.hh")
_NETWORK_KINDS = ("quantise", "output", "program_tiles")


def emit_program(
    program: QuantisedProgram,
    folder: Path | str,
    inputs: NDArray[np.float32],
    *,
    notes: tuple[str, ...] = (),
    score: ProgramScore | None = None,
) -> Manifest:
    """Write the C++ program of a quantised network to a folder, and return the manifest of the program.

    The program computes the same outputs as `program`. Equal arguments give equal bytes in every file.

    Args:
        program: Quantised network from `quantise_program`.
        folder: New or empty folder for the program.
        inputs: Inputs ``(n, height, width, channels)`` that are stored together with the expected outputs.
        notes: Settings of the run's tiles that the program does not have, for the manifest and the README.
        score: Score of the program on validation samples, for the manifest and the README.

    Raises:
        ArtifactError: The folder is not empty or cannot be written.
        UnsupportedLayerError: The network has more than 4095 layers.
    """
    check_size(program)
    target = Path(folder)
    require_empty(target)
    inputs = np.ascontiguousarray(inputs, np.float32)
    constants, space = Constants(), Workspace()
    layers: list[LayerCode] = []
    functions = []
    for number, step in enumerate(program.steps, start=1):
        n_tiles = sum(len(layer.tiles) for layer in layers)
        layers.append(LayerCode(number, step, constants, space, n_tiles))
        functions.append(layers[-1].write())
    arena = place_values(program)
    expected = program.run(inputs)
    manifest = _manifest(program, layers, inputs, expected).replace(notes=notes, score=score)
    require_free_space(target, len(constants.content) + inputs.nbytes + 10_000_000, purpose="an emitted program")
    write_text(target / "main.cc", _main(program, layers, functions, arena, space))
    for name in HEADERS:
        source = resources.files("lionheart.interop.alpine").joinpath("native", name).read_text(encoding="utf-8")
        write_text(target / name, source)
    _write_bytes(target / "weights.bin", bytes(constants.content) or bytes(1))
    _write_bytes(target / "inputs.bin", inputs.astype("<f4").tobytes())
    _write_bytes(target / "expected.bin", expected.tobytes())
    fields = _fields(program, manifest)
    write_text(target / "Makefile", MAKEFILE.format(**fields))
    write_text(target / "README.md", README.format(**fields))
    write_json(target / "manifest.json", manifest.to_json())
    return manifest


def require_empty(folder: Path) -> None:
    """Raise an `ArtifactError` unless `folder` is a new or empty folder."""
    try:
        is_taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise ArtifactError(
            f"{folder}: cannot be read: {error.strerror or error}",
            hint="check the permissions of the folder, or choose another folder",
        ) from error
    if is_taken:
        raise ArtifactError(
            f"{folder}: is a file or is not empty, expected a new or empty folder",
            hint="choose another folder, or delete this file or folder",
        )


def _write_bytes(path: Path, content: bytes) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic(path, write)


def _main(
    program: QuantisedProgram, layers: list[LayerCode], functions: list[str], arena: Arena, space: Workspace
) -> str:
    """Return the content of the file ``main.cc``, the C++ source code of the program."""
    graph = program.program
    tiles = [(tile, layer) for layer in layers for tile in layer.tiles]
    programmed = [
        f"    program_tile({tile.tid}, {tile.rows}, {tile.cols}, lh_weights + {tile.weights}, {_adc_scale(layer)!r});"
        for tile, layer in tiles
    ]
    calls = []
    for layer in layers:
        operation = layer.step.operation
        names = [f"arena + {arena.offsets[name]}" for name in (*operation.inputs, operation.name)]
        calls.append(f"    {layer.function}({', '.join(names)});")
    source, result = graph.shapes[graph.source], layers[-1].step.operation.shape
    return MAIN.format(
        n_tiles=max(1, len(tiles)),
        tile_rows=program.tile_rows,
        tile_cols=program.tile_cols,
        arena=arena.size,
        patches=max(1, space.patches) + 16,
        sums=max(1, space.sums),
        outputs=max(1, space.outputs),
        codes=max(1, space.codes) + 16,
        grouped=max(1, space.grouped),
        n_inputs=source.size,
        n_outputs=result.size,
        inverse_scale=float(program.inverse_input_scale).hex(),
        source=f"arena + {arena.offsets[graph.source]}",
        result=f"arena + {arena.offsets[graph.result]}",
        quantise=region_id(0, "quantise"),
        output=region_id(0, "output"),
        program=region_id(0, "program_tiles"),
        layers="\n".join(functions),
        program_tiles="\n".join(programmed) or "    // none: everything is digital",
        calls="\n".join(calls),
    )


def _adc_scale(layer: LayerCode) -> float:
    step = layer.step
    return step.tiles.adc_scale if isinstance(step, QuantisedProduct) and step.tiles else 1.0


def _manifest(
    program: QuantisedProgram, layers: list[LayerCode], inputs: NDArray[np.float32], expected: NDArray[np.int8]
) -> Manifest:
    """Return the manifest of an emitted program."""
    scale = program.scales[program.program.source]
    return Manifest(
        schema_version=1,
        tile=TileSize(rows=program.tile_rows, cols=program.tile_cols),
        n_tiles=program.n_tiles,
        input=TensorEntry(shape=inputs.shape[1:], scale=scale, dtype="float32"),
        output=TensorEntry(shape=expected.shape[1:], scale=program.output_scale, dtype="int8"),
        n_samples=len(inputs),
        regions=NetworkRegions(network={kind: region_id(0, kind) for kind in _NETWORK_KINDS}),
        layers=tuple(_layer_entry(layer) for layer in layers),
    )


def _layer_entry(layer: LayerCode) -> LayerEntry:
    step, operation = layer.step, layer.step.operation
    entry = LayerEntry(
        number=layer.number,
        function=layer.function,
        about=layer.describe(),
        kind=type(operation).__name__.lower(),
        module=operation.module,
        shape=(operation.shape.height, operation.shape.width, operation.shape.channels),
        regions={kind: region_id(layer.number, kind) for kind in layer.kinds},
    )
    if not isinstance(step, QuantisedProduct):
        return entry
    converters = step.tiles.converters if step.tiles else None
    return ProductEntry(
        **dict(entry),
        fqn=step.operation.fqn,
        placement="analog" if step.tiles else "digital",
        rows=step.operation.rows,
        cols=step.operation.cols,
        groups=step.operation.groups,
        macs=step.operation.macs,
        tiles=tuple(tile.tid for tile in layer.tiles),
        adc_scale=step.tiles.adc_scale if step.tiles else None,
        input_range=converters.input_range if converters else None,
        output_bound=converters.output_bound if converters else None,
    )


def _fields(program: QuantisedProgram, manifest: Manifest) -> dict[str, Any]:
    """Return the values that replace the placeholders in the templates of Makefile and README, by placeholder name."""
    return {
        "n_tiles": program.n_tiles,
        "tile_rows": program.tile_rows,
        "tile_cols": program.tile_cols,
        "n_samples": manifest.n_samples,
        "n_layers": len(manifest.layers),
        "n_products": len(manifest.products),
        "n_analog": manifest.n_analog,
        "input_shape": " x ".join(map(str, manifest.input.shape)),
        "output_shape": " x ".join(map(str, manifest.output.shape)),
        "output_scale": manifest.output.scale,
        "score_lines": "".join(f"\n{line}." for line in manifest.score.lines()) if manifest.score else "",
        "note_lines": "".join(f"\n* {note}" for note in manifest.notes),
        "layer_lines": "\n".join(f"    {layer.number:3}  {layer.about}" for layer in manifest.layers),
    }
