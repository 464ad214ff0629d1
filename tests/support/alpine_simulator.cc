// Tiles that execute ALPINE's instruction words as the decoder of the simulator reads them, linked to a program under QEMU. Nothing
// here comes from aimc.hh: its own emulation had once the same error as its instruction words, so it could not show the error.
//
// The decoder passes ra, rn and rm as the first, second and third operand. Register x11 selects a tile.
//     SIMULATED_TILE="rows cols"        size of each tile
//     SIMULATED_SCALES="s0 s1 ..."      ADC scale of each tile
//     SIMULATED_TRACE=1                 prints each instruction with its operands

#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>
#include <ucontext.h>
#include <vector>

namespace {

size_t n_rows, n_cols;
std::vector<double> scales;
bool traces;

struct Tile {
    std::vector<int8_t> weights = std::vector<int8_t>(n_rows * n_cols), inputs = std::vector<int8_t>(n_rows),
                        outputs = std::vector<int8_t>(n_cols);
    size_t next_input = 0, next_output = 0;
};

std::map<uint64_t, Tile> tiles;

int8_t &weight_at(Tile &tile, uint64_t x, uint64_t y) {
    if (x >= n_cols || y >= n_rows) {
        std::fprintf(stderr, "simulator: weight (%llu, %llu) is outside the tile\n", (unsigned long long)x, (unsigned long long)y);
        std::_Exit(5);
    }
    return tile.weights[y * n_cols + x];
}

void process(Tile &tile, double scale) {
    for (size_t x = 0; x < n_cols; ++x) {
        int64_t sum = 0;
        for (size_t y = 0; y < n_rows; ++y) sum += tile.inputs[y] * tile.weights[y * n_cols + x];
        tile.outputs[x] = (int8_t)std::fmin(127, std::fmax(-128, std::nearbyint((double)sum * scale)));
    }
    std::memset(tile.inputs.data(), 0, n_rows);
    tile.next_input = tile.next_output = 0;
}

void execute(int, siginfo_t *, void *context) {
    auto &machine = ((ucontext_t *)context)->uc_mcontext;
    uint32_t word;
    std::memcpy(&word, (const void *)machine.pc, sizeof word);
    auto operand = [&](int low) { return (word >> low & 31) == 31 ? (uint64_t)0 : (uint64_t)machine.regs[word >> low & 31]; };
    uint64_t first = operand(10), second = operand(5), third = operand(16);
    auto &destination = machine.regs[word & 31];
    uint64_t tid = machine.regs[11];
    Tile &tile = tiles[tid];
    bool direction = word >> 15 & 1;
    switch (word >> 21) {
        case 0x008: process(tile, tid < scales.size() ? scales[tid] : 1.0); break;
        case 0x108:
            for (int i = 0; i < 4; ++i) {
                if (direction && tile.next_input < n_rows) tile.inputs[tile.next_input++] = (int8_t)(second >> (8 * i));
                if (direction) continue;
                if (i == 0) destination = 0;
                if (tile.next_output < n_cols) destination |= (uint64_t)(uint8_t)tile.outputs[tile.next_output++] << (8 * i);
            }
            break;
        case 0x208:
            if (direction) destination = (uint64_t)(int64_t)weight_at(tile, second, first);
            else weight_at(tile, second, first) = (int8_t)third;
            break;
        default:
            std::fprintf(stderr, "simulator: illegal instruction %08x\n", word);
            std::_Exit(4);
    }
    if (traces)
        std::printf("%08x tile %llu: %lld %lld %lld\n", word, (unsigned long long)tid, (long long)first, (long long)second,
                    (long long)third);
    machine.pc += 4;
}

bool start() {
    std::istringstream size(std::getenv("SIMULATED_TILE") ?: "8 8"), list(std::getenv("SIMULATED_SCALES") ?: "");
    size >> n_rows >> n_cols;
    for (double scale; list >> scale;) scales.push_back(scale);
    traces = std::getenv("SIMULATED_TRACE") != nullptr;
    struct sigaction action = {};
    action.sa_sigaction = execute;
    action.sa_flags = SA_SIGINFO;
    return sigaction(SIGILL, &action, nullptr) == 0;
}

const bool started = start();  // after the objects above, in their order

}  // namespace
