// Calls every integer kernel on random data of odd sizes and prints a hash of all results: it must not depend on the machine.
#include "lionheart_kernels.h"

#include <cstdio>
#include <vector>

static uint64_t hash = 1469598103934665603u;
static uint32_t state = 7;

template <typename T>
static void mix(const std::vector<T> &values) {
    const uint8_t *bytes = (const uint8_t *)values.data();
    for (size_t i = 0; i < values.size() * sizeof(T); ++i) hash = (hash ^ bytes[i]) * 1099511628211u;
}

static int draw(int low, int high) {
    state = state * 1664525u + 1013904223u;
    return low + (int)((state >> 8) % (unsigned)(high - low + 1));
}

static std::vector<int8_t> draw_many(int n, int low = -128, int high = 127) {
    std::vector<int8_t> values(n);
    for (auto &value : values) value = (int8_t)draw(low, high);
    return values;
}

static void products(int round) {
    int m = draw(1, 9), n = draw(1, 11), k = draw(1, 70);
    auto a = draw_many(m * k), b = draw_many(n * k, -127, 127);
    if (round == 0) a.assign(m * k, -128), b.assign(n * k, 127);  // the largest magnitudes
    std::vector<int32_t> c(m * n), bias(n), multiplier(n), shift(n);
    lh_gemm_s8(m, n, k, a.data(), k, b.data(), k, c.data(), n);
    mix(c);
    for (int j = 0; j < n; ++j) bias[j] = draw(-5000, 5000), multiplier[j] = (1 << 30) + draw(0, 1 << 23) * 127, shift[j] = draw(31, 46);
    std::vector<int8_t> out(m * n);
    lh_requantise(m, n, c.data(), bias.data(), multiplier.data(), shift.data(), draw(-128, 0), 127, out.data(), n);
    mix(out);
}

static void tiles() {
    int n = draw(1, 40), first = draw(0, n - 1);
    auto x = draw_many(n);
    std::vector<int16_t> factor(n);
    for (auto &each : factor) each = (int16_t)draw(0, 16384);
    std::vector<int32_t> acc(n, draw(-1000, 1000));
    lh_accumulate_scaled_s8(n, x.data(), factor.data(), acc.data());
    mix(acc);
    lh_segment segments[] = {{first, n - first}, {0, first}};
    std::vector<int8_t> out(n);
    lh_regroup_s8(2, segments, x.data(), out.data());
    mix(out);
}

static void windows() {
    lh_window w{draw(3, 7), draw(3, 7), draw(1, 37), draw(1, 3), draw(1, 3), draw(1, 2), draw(1, 2), draw(0, 1), draw(0, 1), 1, 1, 0, 0};
    w.dilation_h = w.height > 5 ? draw(1, 2) : 1;
    w.out_h = (w.height + 2 * w.pad_h - w.dilation_h * (w.kernel_h - 1) - 1) / w.stride_h + 1;
    w.out_w = (w.width + 2 * w.pad_w - w.kernel_w) / w.stride_w + 1;
    auto x = draw_many(w.height * w.width * w.channels), weights = draw_many(9 * w.channels, -127, 127);
    std::vector<int8_t> out(w.out_h * w.out_w * w.channels), patches(w.out_w * 352), patch(352);
    std::vector<int32_t> sums(w.out_w * w.channels);
    lh_max_pool_s8(&w, x.data(), out.data());
    mix(out);
    lh_average_pool_s8(&w, x.data(), 1 << 30, 33, sums.data(), out.data());
    mix(out);
    for (int row = 0; row < w.out_h; ++row) {
        lh_depthwise_s8(&w, x.data(), weights.data(), row, sums.data());
        mix(sums);
        lh_im2col_s8(&w, x.data(), row, 1, 0, w.channels, patches.data(), 352);
        mix(patches);
    }
    int first = draw(0, w.channels - 1);
    lh_gather_patch_s8(&w, x.data(), 0, 0, first, w.channels - first, patch.data(), 352);
    mix(patch);
}

static void elements() {
    int n = draw(1, 70);
    auto a = draw_many(n), b = draw_many(n);
    std::vector<int8_t> out(n), placed(1000);
    std::vector<float> real(n);
    std::vector<int32_t> sums(n);
    lh_add_s8(n, a.data(), 3000001, b.data(), 1234567, 22, -128, 127, out.data());
    mix(out);
    lh_rescale_s8(n, a.data(), 1 << 30, 31, 0, 127, out.data());  // every odd value is a half
    mix(out);
    lh_relu_s8(n, a.data(), 0, 100, out.data());
    mix(out);
    lh_dequantise_s8(n, a.data(), 0.37f, real.data());
    mix(real);
    lh_quantise_s8(n, real.data(), 2.9f, out.data());
    mix(out);
    lh_accumulate_s8(n, a.data(), sums.data());
    mix(sums);
    auto image = draw_many(5 * 5 * 3);
    lh_place_s8(image.data(), 5, 5, 3, 2, 2, placed.data(), 5, 5, 40, 1, 1, 4);
    mix(placed);
}

int main() {
    for (int round = 0; round < 200; ++round) products(round), windows(), elements(), tiles();
    std::printf("%016llx\n", (unsigned long long)hash);
}
