// SPDX-License-Identifier: Apache-2.0
//
// Analog tiles behind the interface of AIMClib, the library of the ALPINE simulator (gem5-X). Header only, C++17; written for
// LionHeart from the public interface and the instruction encodings of ALPINE's ISA extension.
//
//     mapMatrix(x0, y0, height, width, m[, tid])   write weights; m[row][column], row = input, column = output
//     queueVector(size, v[, tid])                  int8 inputs into the input memory, four an instruction
//     aimcProcess([tid])                           one product; clears the input memory and both counters
//     dequeueVector(size, v[, tid])                int8 outputs from the output memory, four an instruction
//     aimcQueue, aimcDequeue, aimcParamRead, aimcParamWrite    single instructions; x = column, y = row
//
// Modes, selected by macros:
//     USE_CHECKER     Tiles are emulated in C++ on any machine. A fault (weights, inputs or outputs outside the tile) ends the
//                     program with a message. Default on targets other than AArch64.
//     LH_AIMC_TRAP    AArch64: real instruction words, emulated by a SIGILL handler. Programs run and are checked under
//                     qemu-aarch64, or on any AArch64 Linux.
//     LH_AIMC_DRY     AArch64: hints without effect replace the instruction words: 96 process, 104 queue, 112 dequeue,
//                     120 parameters. All are multiples of 8, because the simulator decodes other hints as WFE, WFI or SEV.
//                     Outputs are invalid; instruction counts are those of the real program without a handler.
//     none of these   AArch64: real instruction words, for the ALPINE simulator.
//
// Extensions of AIMClib:
//   * Several tiles per core. AIMClib has one tile per core, and `tid` is the core. Here `tid` is the tile. The instruction
//     words are the same; register x11 holds the tile number when an instruction executes. The released simulator ignores x11
//     and sends every instruction to the one tile of the core. More than one tile therefore needs LH_AIMC_TILE_SELECT, which
//     states that the simulator reads x11.
//   * An ADC scale: output = saturate(round(sum * scale)), halves to even. AIMClib and the simulator have the scale 1, which is
//     the default. aimcSetAdcScale changes the scale in the emulations; in other modes it does nothing, as ALPINE has no
//     instruction for the scale.
//   * Checks of bounds. AIMClib has none.
//
// Operands. The decoder of the simulator passes ra, rn and rm as the first, second and third operand of an instruction: the data
// of a queue instruction is in rn, and a parameter instruction has the column x in rn, the row y in ra and the weight in rm (read:
// rd). The comments of the simulator's instruction description and of released AIMClib say otherwise; there, the queue and the
// parameter read take an operand from register x0.

#ifndef LIONHEART_AIMC_HH
#define LIONHEART_AIMC_HH

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#ifndef LH_AIMC_TILES
#define LH_AIMC_TILES 8
#endif
#ifndef LH_AIMC_ROWS
#define LH_AIMC_ROWS 2000  // as in the simulator's source
#endif
#ifndef LH_AIMC_COLS
#define LH_AIMC_COLS 2000
#endif

#if !defined(__aarch64__) && !defined(USE_CHECKER)
#define USE_CHECKER
#endif
#if !defined(USE_CHECKER) && !defined(LH_AIMC_TRAP) && !defined(LH_AIMC_DRY) && LH_AIMC_TILES > 1 && \
    !defined(LH_AIMC_TILE_SELECT)
#error "several tiles per core: define LH_AIMC_TILE_SELECT if your simulator reads the tile number from register x11"
#endif

// -------------------------------------------------------------------------------------------------------------- emulation

#if defined(USE_CHECKER) || defined(LH_AIMC_TRAP)
namespace lionheart {

struct TileCounts {
    uint64_t queue = 0, process = 0, dequeue = 0, param_read = 0, param_write = 0;
};

// An ideal tile: int8 inputs, int8 weights, exact sums, an ADC that scales, rounds and saturates.
class EmulatedTile {
  public:
    TileCounts counts;
    double adc_scale = 1.0;

    void queue(uint32_t packed) {
        ++counts.queue;
        for (int i = 0; i < 4; ++i, ++next_input_) {
            int8_t value = (int8_t)(packed >> (8 * i));
            if (next_input_ < LH_AIMC_ROWS) inputs_[next_input_] = value;
            else if (value != 0) fail("queue: more inputs than rows", next_input_);
        }
    }

    void process() {
        ++counts.process;
        std::vector<int32_t> sums(used_cols_, 0);
        for (int row = 0; row < used_rows_; ++row) {
            const int8_t *line = weights_.data() + (size_t)row * LH_AIMC_COLS;
            int32_t input = inputs_[row];
            if (input == 0) continue;
            for (int col = 0; col < used_cols_; ++col) sums[col] += input * line[col];
        }
        for (int col = 0; col < used_cols_; ++col) {
            double step = std::nearbyint(sums[col] * adc_scale);
            outputs_[col] = (int8_t)(step < -128 ? -128 : step > 127 ? 127 : step);
        }
        std::memset(inputs_.data(), 0, inputs_.size());
        next_input_ = next_output_ = 0;
    }

    uint32_t dequeue() {
        ++counts.dequeue;
        if (next_output_ >= LH_AIMC_COLS) fail("dequeue: more outputs than columns", next_output_);
        uint32_t packed = 0;
        for (int i = 0; i < 4; ++i, ++next_output_)
            if (next_output_ < LH_AIMC_COLS) packed |= (uint32_t)(uint8_t)outputs_[next_output_] << (8 * i);
        return packed;
    }

    int8_t read(int64_t x, int64_t y) {
        ++counts.param_read;
        return weights_.empty() ? (int8_t)0 : weights_[at(x, y)];
    }

    void write(int64_t x, int64_t y, int8_t value) {
        ++counts.param_write;
        size_t index = at(x, y);
        if (weights_.empty()) weights_.assign((size_t)LH_AIMC_ROWS * LH_AIMC_COLS, 0);
        weights_[index] = value;
        if (x >= used_cols_) used_cols_ = (int)x + 1;
        if (y >= used_rows_) used_rows_ = (int)y + 1;
    }

    [[noreturn]] static void fail(const char *what, int64_t number) {
        std::fprintf(stderr, "aimc: %s (%lld); the tile is %d x %d\n", what, (long long)number, LH_AIMC_ROWS, LH_AIMC_COLS);
        std::exit(3);
    }

  private:
    static size_t at(int64_t x, int64_t y) {
        if (x < 0 || x >= LH_AIMC_COLS) fail("weight: no such column", x);
        if (y < 0 || y >= LH_AIMC_ROWS) fail("weight: no such row", y);
        return (size_t)y * LH_AIMC_COLS + (size_t)x;
    }

    std::vector<int8_t> weights_;  // allocated with the first write
    std::vector<int8_t> inputs_ = std::vector<int8_t>(LH_AIMC_ROWS, 0);
    std::vector<int8_t> outputs_ = std::vector<int8_t>(LH_AIMC_COLS, 0);
    int next_input_ = 0, next_output_ = 0, used_rows_ = 0, used_cols_ = 0;
};

inline EmulatedTile &emulated_tile(int64_t tid) {
    static std::vector<EmulatedTile> tiles(LH_AIMC_TILES);
    if (tid < 0 || tid >= LH_AIMC_TILES) EmulatedTile::fail("no such tile", tid);
    return tiles[(size_t)tid];
}

}  // namespace lionheart
#endif

// ----------------------------------------------------------------------------------------------------------- instructions

#if defined(USE_CHECKER)

inline uint64_t aimcProcess(int tid = 0) { lionheart::emulated_tile(tid).process(); return 0; }
inline uint64_t aimcQueue(uint64_t packed, int tid = 0) { lionheart::emulated_tile(tid).queue((uint32_t)packed); return 0; }
inline uint64_t aimcDequeue(int tid = 0) { return lionheart::emulated_tile(tid).dequeue(); }
inline int64_t aimcParamRead(uint64_t x, uint64_t y, int tid = 0) {
    return lionheart::emulated_tile(tid).read((int64_t)x, (int64_t)y);
}
inline void aimcParamWrite(uint64_t x, uint64_t y, int64_t value, int tid = 0) {
    lionheart::emulated_tile(tid).write((int64_t)x, (int64_t)y, (int8_t)value);
}

#else  // AArch64. Fields of a word: opc 30-29, rm 20-16, bit 15, ra 14-10, rn 9-5, rd 4-0.

#if defined(LH_AIMC_DRY)
#define LH_CM_PROCESS "0xd5032c1f"
#define LH_CM_QUEUE "0xd5032d1f"
#define LH_CM_DEQUEUE "0xd5032e1f"
#define LH_CM_READ "0xd5032f1f"
#define LH_CM_WRITE "0xd5032f1f"
#else
#define LH_CM_PROCESS "0x01000000"
#define LH_CM_QUEUE "0x21008100"    // rn = x8: four int8, the first in the lowest byte
#define LH_CM_DEQUEUE "0x2100000a"  // rd = x10: the same
#define LH_CM_READ "0x41009d2a"     // rn = x9: x, ra = x7: y, rd = x10: weight
#define LH_CM_WRITE "0x41081d2a"    // rn = x9: x, ra = x7: y, rm = x8: weight, rd = x10
#endif

inline void aimcProcess(int tid = 0) {
    register int64_t tile __asm__("x11") = tid;
    __asm__ volatile(".inst " LH_CM_PROCESS : : "r"(tile) : "memory");
}

inline void aimcQueue(uint64_t packed, int tid = 0) {
    register uint64_t value __asm__("x8") = packed;
    register int64_t tile __asm__("x11") = tid;
    __asm__ volatile(".inst " LH_CM_QUEUE : : "r"(value), "r"(tile) : "memory");
}

inline uint64_t aimcDequeue(int tid = 0) {
    register uint64_t value __asm__("x10");
    register int64_t tile __asm__("x11") = tid;
    __asm__ volatile(".inst " LH_CM_DEQUEUE : "=r"(value) : "r"(tile) : "memory");
    return value;
}

inline int64_t aimcParamRead(uint64_t x, uint64_t y, int tid = 0) {
    register uint64_t col __asm__("x9") = x;
    register uint64_t row __asm__("x7") = y;
    register int64_t value __asm__("x10");
    register int64_t tile __asm__("x11") = tid;
    __asm__ volatile(".inst " LH_CM_READ : "=r"(value) : "r"(col), "r"(row), "r"(tile) : "memory");
    return value;
}

inline void aimcParamWrite(uint64_t x, uint64_t y, int64_t weight, int tid = 0) {
    register uint64_t col __asm__("x9") = x;
    register uint64_t row __asm__("x7") = y;
    register int64_t value __asm__("x8") = weight;
    register int64_t tile __asm__("x11") = tid;
    __asm__ volatile(".inst " LH_CM_WRITE : : "r"(col), "r"(row), "r"(value), "r"(tile) : "x10", "memory");
}

#endif

#if defined(LH_AIMC_TRAP) && !defined(USE_CHECKER)
#include <csignal>
#include <ucontext.h>

namespace lionheart {

// Executes the instruction word at the program counter and continues behind it. An unknown word ends the program.
inline void emulate_trapped(int, siginfo_t *, void *context) {
    auto &machine = ((ucontext_t *)context)->uc_mcontext;
    uint32_t word;
    std::memcpy(&word, (const void *)machine.pc, sizeof word);
    if ((word & 0x9f000000u) != 0x01000000u || (word >> 29 & 3) == 3) {
        std::fprintf(stderr, "aimc: illegal instruction %08x\n", word);
        std::_Exit(4);
    }
    EmulatedTile &tile = emulated_tile((int64_t)machine.regs[11]);
    auto reg = [&](int low) -> auto & { return machine.regs[word >> low & 31]; };
    auto &rd = reg(0), &rn = reg(5), &ra = reg(10), &rm = reg(16);
    bool bit15 = word >> 15 & 1;
    switch (word >> 29 & 3) {
        case 0: tile.process(); break;
        case 1:
            if (bit15) tile.queue((uint32_t)rn);
            else rd = tile.dequeue();
            break;
        default:
            if (bit15) rd = (uint64_t)(int64_t)tile.read((int64_t)rn, (int64_t)ra);
            else tile.write((int64_t)rn, (int64_t)ra, (int8_t)rm);
    }
    machine.pc += 4;
}

inline bool install_trap() {
    struct sigaction action = {};
    action.sa_sigaction = emulate_trapped;
    action.sa_flags = SA_SIGINFO;
    return sigaction(SIGILL, &action, nullptr) == 0;
}
inline const bool trap_installed = install_trap();

}  // namespace lionheart
#endif

// ------------------------------------------------------------------------------------------------------- matrices, vectors

// Sets the ADC scale of a tile if tiles are emulated.
inline void aimcSetAdcScale(double scale, int tid = 0) {
#if defined(USE_CHECKER) || defined(LH_AIMC_TRAP)
    lionheart::emulated_tile(tid).adc_scale = scale;
#else
    (void)scale, (void)tid;
#endif
}

// Writes a matrix whose corner lies at column x0 and row y0.
inline void mapMatrix(int x0, int y0, int height, int width, const int8_t *const *m, int tid = 0) {
    for (int row = 0; row < height; ++row)
        for (int col = 0; col < width; ++col) aimcParamWrite(col + x0, row + y0, m[row][col], tid);
}

// Writes a matrix from one block of memory in row-major order. (AIMClib's overload reads m[column * width + row].)
inline void mapMatrix(int x0, int y0, int height, int width, const int8_t *m, int tid = 0) {
    for (int row = 0; row < height; ++row)
        for (int col = 0; col < width; ++col) aimcParamWrite(col + x0, row + y0, m[(size_t)row * width + col], tid);
}

inline void queueVector(int size, const int8_t *v, int tid = 0) {
    int i = 0;
    for (; i + 4 <= size; i += 4) {
        uint32_t packed;
        std::memcpy(&packed, v + i, 4);  // little-endian: the first value is the lowest byte
        aimcQueue(packed, tid);
    }
    if (i < size) {
        uint32_t packed = 0;
        std::memcpy(&packed, v + i, (size_t)(size - i));
        aimcQueue(packed, tid);
    }
}

inline void dequeueVector(int size, int8_t *v, int tid = 0) {
    int i = 0;
    for (; i + 4 <= size; i += 4) {
        uint32_t packed = (uint32_t)aimcDequeue(tid);
        std::memcpy(v + i, &packed, 4);
    }
    if (i < size) {
        uint32_t packed = (uint32_t)aimcDequeue(tid);
        std::memcpy(v + i, &packed, (size_t)(size - i));
    }
}

#endif  // LIONHEART_AIMC_HH
