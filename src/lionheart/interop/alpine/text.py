"""Templates for the files of an emitted program.

Properties of the network, such as the number of tiles, replace placeholders such as ``{n_tiles}``.
"""

from __future__ import annotations

MAIN = """// Written by LionHeart. Constants are in weights.bin; README.md says how to build and run this, manifest.json
// what regions are.

#define LH_AIMC_TILES {n_tiles}
#define LH_AIMC_ROWS {tile_rows}
#define LH_AIMC_COLS {tile_cols}
#ifdef LH_AIMCLIB
#include <aimc.hh>  // the released AIMClib, from the folder that -I names
#else
#include "aimc.hh"
#endif
#include "lionheart_kernels.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

#ifdef LIONHEART_AIMC_HH
[[maybe_unused]] static void set_adc_scale(double scale, int tid) {{ aimcSetAdcScale(scale, tid); }}
#else
#if LH_AIMC_TILES > 1
#warning "AIMClib has one tile per core, and this program has several: its time is right, its outputs are not"
#endif
[[maybe_unused]] static void set_adc_scale(double, int) {{}}  // AIMClib has no ADC scale: sums only saturate
#endif

#define LAYER extern "C" __attribute__((weak, noinline))

__asm__(".section .rodata\\n.balign 64\\n.global lh_weights\\nlh_weights:\\n.incbin \\"weights.bin\\"\\n.byte 0\\n.text\\n");
extern "C" const int8_t lh_weights[];

struct Tile {{
    int tid, row, rows, col, cols, factor;
}};

alignas(64) static int8_t arena[{arena}];
[[maybe_unused]] alignas(64) static int8_t patches[{patches}];
[[maybe_unused]] alignas(64) static int32_t sums[{sums}];
[[maybe_unused]] alignas(64) static int8_t outputs[{outputs}];
[[maybe_unused]] alignas(64) static int8_t codes[{codes}];
[[maybe_unused]] alignas(64) static int8_t grouped[{grouped}];

{layers}
[[maybe_unused]] static void program_tile(int tid, int rows, int cols, const int8_t *weights, double adc_scale) {{
    for (int row = 0; row < rows; ++row)
        for (int col = 0; col < cols; ++col)
            aimcParamWrite((uint64_t)col, (uint64_t)row, (uint64_t)(int64_t)weights[(size_t)row * cols + col], tid);
    set_adc_scale(adc_scale, tid);
}}

LAYER void program_tiles() {{
    LH_REGION({program});
{program_tiles}
    LH_REGION(0);
}}

// One inference: float inputs (height, width, channels) to int8 outputs.
LAYER void infer(const float *in, int8_t *result) {{
    LH_REGION({quantise});
    lh_quantise_s8({n_inputs}, in, {inverse_scale}f, {source});
    LH_REGION(0);
{calls}
    LH_REGION({output});
    std::memcpy(result, {result}, {n_outputs});
    LH_REGION(0);
}}

// main [inputs.bin [outputs.bin [samples]]]: reads float32 inputs, writes int8 outputs.
int main(int argc, char **argv) {{
    const char *from = argc > 1 ? argv[1] : "inputs.bin", *to = argc > 2 ? argv[2] : "outputs.bin";
    long most = argc > 3 ? std::strtol(argv[3], nullptr, 10) : -1;
    std::FILE *in = std::fopen(from, "rb"), *out = std::fopen(to, "wb");
    if (in == nullptr || out == nullptr) {{
        std::fprintf(stderr, "%s: cannot be opened\\n", in == nullptr ? from : to);
        return 2;
    }}
    program_tiles();
    std::vector<float> sample({n_inputs});
    std::vector<int8_t> result({n_outputs});
    long n = 0;
    for (; n != most && std::fread(sample.data(), sizeof(float), sample.size(), in) == sample.size(); ++n) {{
        infer(sample.data(), result.data());
        if (std::fwrite(result.data(), 1, result.size(), out) != result.size()) return 2;
    }}
    std::fclose(in);
    if (std::fclose(out) != 0) return 2;
    std::printf("samples %ld\\n", n);
#if defined(LIONHEART_AIMC_HH) && (defined(USE_CHECKER) || defined(LH_AIMC_TRAP))
    lionheart::TileCounts all;
    for (int tid = 0; tid < LH_AIMC_TILES; ++tid) {{
        const lionheart::TileCounts &one = lionheart::emulated_tile(tid).counts;
        all.queue += one.queue, all.process += one.process, all.dequeue += one.dequeue, all.param_write += one.param_write;
    }}
    std::printf("queue %llu\\nprocess %llu\\ndequeue %llu\\nparam_write %llu\\n", (unsigned long long)all.queue,
                (unsigned long long)all.process, (unsigned long long)all.dequeue, (unsigned long long)all.param_write);
#endif
    return 0;
}}
"""

MAKEFILE = """# Written by LionHeart.
CXX ?= g++
CROSS ?= aarch64-linux-gnu-g++
QEMU ?= qemu-aarch64
FLAGS = -std=c++17 -O3 -ffp-contract=off -Wall -Wextra -I.
SOURCES = main.cc aimc.hh lionheart_kernels.h weights.bin
# 1 if the simulator reads the tile number from register x11. The released simulator has one tile per core.
TILE_SELECT ?= 0
# Folder of the released AIMClib. Empty: the aimc.hh of this folder.
AIMCLIB ?=

.PHONY: all host aarch64-trap aarch64-dry alpine check check-aarch64 clean

all: host

host: build/host ## for this machine, with emulated tiles
aarch64-trap: build/aarch64-trap ## ALPINE's instructions, which trap and are emulated
aarch64-dry: build/aarch64-dry ## hints replace the tile instructions, for counting instructions; outputs are invalid
alpine: build/alpine ## ALPINE's instructions, for the simulator

check: build/host
	./build/host inputs.bin build/outputs.bin
	cmp build/outputs.bin expected.bin && echo "outputs as expected"

check-aarch64: build/aarch64-trap
	$(QEMU) build/aarch64-trap inputs.bin build/outputs.bin
	cmp build/outputs.bin expected.bin && echo "outputs as expected"

build/host: $(SOURCES)
	@mkdir -p build
	$(CXX) $(FLAGS) -DUSE_CHECKER main.cc -o $@

build/aarch64-trap: $(SOURCES)
	@mkdir -p build
	$(CROSS) $(FLAGS) -static -DLH_AIMC_TRAP main.cc -o $@

build/aarch64-dry: $(SOURCES)
	@mkdir -p build
	$(CROSS) $(FLAGS) -static -DLH_AIMC_DRY main.cc -o $@

build/alpine: $(SOURCES)
	@mkdir -p build
	$(CROSS) $(if $(AIMCLIB),-DLH_AIMCLIB -I$(AIMCLIB)) $(FLAGS) -static \
		$(if $(filter 1,$(TILE_SELECT)),-DLH_AIMC_TILE_SELECT) main.cc -o $@

clean:
	rm -rf build
"""

README = """# A network for ALPINE

Written by LionHeart: {n_layers} layers, {n_analog} of {n_products} products on {n_tiles} analog tiles
of {tile_rows} x {tile_cols}.
{score_lines}{note_lines}

    make check           # build for this machine with emulated tiles, run, compare with expected.bin
    make check-aarch64   # the same for AArch64 under QEMU; ALPINE's instructions trap and are emulated
    make alpine          # for the ALPINE simulator (gem5-X): build/alpine

The programs read `inputs.bin` ({n_samples} samples of {input_shape}, float32, channels last) and write int8 outputs of
{output_shape}; one step of an output is {output_scale}. A run takes `[inputs [outputs [samples]]]` as arguments. Building needs
Linux, GCC or Clang with C++17, and for AArch64 `g++-aarch64-linux-gnu` (QEMU: `qemu-user`).

| file | what it is |
|---|---|
| `main.cc` | the network, a function for each layer; analog layers speak AIMClib's interface |
| `lionheart_kernels.h` | the digital kernels, with NEON and in portable C++; both give the same bits |
| `aimc.hh` | tiles behind AIMClib's interface; its head says which modes there are and where it goes beyond AIMClib |
| `weights.bin` | weights and parameters |
| `inputs.bin`, `expected.bin` | samples, and what LionHeart's quantised reference makes of them |
| `manifest.json` | layers, tiles, scales, and the numbers of the regions |

## In the simulator

`build/alpine` is a static AArch64 program. Copy it into the disk image together with `inputs.bin`, and run it. What to know:

* The released simulator has one tile a core and no instruction that selects another. This program has {n_tiles}. Programs
  with more than one put the tile's number into register x11 before each instruction; build them with
  `make alpine TILE_SELECT=1` for a simulator that reads it (`aimc_cluster.cc`: a tile for each pair of thread and x11).
  Without that they do not compile.
* `make alpine AIMCLIB=folder` builds with the headers of released AIMClib instead of `aimc.hh`. All tiles of the program then
  share the one tile of the core. AIMClib's queue instruction takes its data from another register than the one it writes, so
  outputs are invalid.
* The released tile has a converter without scale: it only saturates. Time is right, outputs are not, unless the tile's model
  multiplies its sums by `adc_scale` (of each layer, in `manifest.json`) and rounds before it saturates.
* Tiles are programmed once, in `program_tiles`; keep it out of what you measure.

## Regions

`movz xzr, #n` marks where region n begins: n is 16 x layer + kind of work, as in `manifest.json`. It changes nothing when it
executes. In `build/aarch64-dry` hints 96, 104, 112 and 120 stand for process, queue, dequeue and parameter instructions, so
that any counter of instructions runs the program without an emulation among the counts.

## Layers

{layer_lines}
"""
