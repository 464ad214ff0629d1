// SPDX-License-Identifier: Apache-2.0
//
// The digital kernels of LionHeart's emitted programs, also used for counting instructions. Header only, C++17.
//
// Conventions. Activations are NHWC with one sample; int8 values are symmetric (zero point 0). Activations are in [-128, 127],
// weights in [-127, 127], so that the NEON product of two pairs fits 16 bits. Integer kernels give the same bits with and
// without NEON. Every kernel is a weak function with a C name, so that no compiler clones or inlines the function and counts can be
// attributed to the kernel. Sizes are in elements; `ld` is the distance between two rows, in elements.
//
// All kernels use one rule for fixed-point scaling: y = round(x * multiplier / 2^shift), rounded once, halves away from zero.

#ifndef LIONHEART_KERNELS_H
#define LIONHEART_KERNELS_H

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__aarch64__) && !defined(LH_PORTABLE)
#define LH_NEON 1
#include <arm_neon.h>
#endif

#define LH_KERNEL extern "C" __attribute__((weak, noinline))
#define LH_INLINE static inline __attribute__((always_inline))
#define LH_UNROLL _Pragma("GCC unroll 8")
#define LH_KEEP_LOOP __asm__ volatile("")  // prevents the compiler from replacing the loop by a call of memcpy or memset

// Marks the start of region `id` (a constant, 0 to 65535; 0 is "no region"), which ends at the next mark. The mark is
// movz xzr, #id, an instruction without effect from which an instruction counter reads the id.
#if defined(__aarch64__)
#define LH_REGION(id) __asm__ volatile(".inst 0xd280001f | (%c0 << 5)" : : "i"(id) : "memory")
#else
#define LH_REGION(id) ((void)0)
#endif

// Geometry of a window that slides over an NHWC image.
struct lh_window {
    int height, width, channels;     // of the input
    int kernel_h, kernel_w;
    int stride_h, stride_w;
    int pad_h, pad_w;                // before the first row and column; pixels outside the image are zero
    int dilation_h, dilation_w;
    int out_h, out_w;
};

// ---------------------------------------------------------------------------------------------------------------- scaling

LH_INLINE int32_t lh_clamp(int64_t x, int32_t lo, int32_t hi) {
    return x < lo ? lo : x > hi ? hi : (int32_t)x;
}

// round(x * multiplier / 2^shift), halves away from zero; multiplier >= 0, 1 <= shift <= 62.
LH_INLINE int64_t lh_scale(int32_t x, int32_t multiplier, int shift) {
    int64_t product = (int64_t)x * multiplier;
    product += product >> 63;
    return (product + ((int64_t)1 << (shift - 1))) >> shift;
}

#ifdef LH_NEON
// Scaling of four lanes, saturated to 32 bits; `shift` holds negative numbers.
LH_INLINE int32x4_t lh_scale_x4(int32x4_t x, int32x4_t multiplier, int64x2_t shift_lo, int64x2_t shift_hi) {
    int64x2_t low = vmull_s32(vget_low_s32(x), vget_low_s32(multiplier));
    int64x2_t high = vmull_high_s32(x, multiplier);
    low = vrshlq_s64(vsraq_n_s64(low, low, 63), shift_lo);
    high = vrshlq_s64(vsraq_n_s64(high, high, 63), shift_hi);
    return vqmovn_high_s64(vqmovn_s64(low), high);
}

LH_INLINE int8x8_t lh_narrow_x8(int32x4_t low, int32x4_t high, int8x8_t lo, int8x8_t hi) {
    int8x8_t narrow = vqmovn_s16(vqmovn_high_s32(vqmovn_s32(low), high));
    return vmin_s8(vmax_s8(narrow, lo), hi);
}
#endif

// out[i][j] = clamp(round((acc[i][j] + bias[j]) * multiplier[j] / 2^shift[j]), lo, hi) for i < rows, j < cols.
// acc is dense, out has rows of ld_out. |acc + bias| < 2^31. lo = 0 is a ReLU; hi below 127 is a bounded ReLU.
LH_KERNEL void lh_requantise(int rows, int cols, const int32_t *acc, const int32_t *bias, const int32_t *multiplier,
                             const int32_t *shift, int lo, int hi, int8_t *out, int ld_out) {
    for (int i = 0; i < rows; ++i) {
        const int32_t *from = acc + (size_t)i * cols;
        int8_t *to = out + (size_t)i * ld_out;
        int j = 0;
#ifdef LH_NEON
        int8x8_t low = vdup_n_s8((int8_t)lo), high = vdup_n_s8((int8_t)hi);
        for (; j + 8 <= cols; j += 8) {
            int32x4_t half[2];
            for (int part = 0; part < 2; ++part) {
                int at = j + 4 * part;
                int32x4_t negative = vnegq_s32(vld1q_s32(shift + at));
                int32x4_t x = vaddq_s32(vld1q_s32(from + at), vld1q_s32(bias + at));
                half[part] = lh_scale_x4(x, vld1q_s32(multiplier + at), vmovl_s32(vget_low_s32(negative)),
                                         vmovl_high_s32(negative));
            }
            vst1_s8(to + j, lh_narrow_x8(half[0], half[1], low, high));
        }
#endif
        for (; j < cols; ++j) to[j] = (int8_t)lh_clamp(lh_scale(from[j] + bias[j], multiplier[j], shift[j]), lo, hi);
    }
}

// out[i] = clamp(round((a[i] * multiplier_a + b[i] * multiplier_b) / 2^shift), lo, hi); multipliers below 2^22, shift 1 to 30.
LH_KERNEL void lh_add_s8(int n, const int8_t *a, int32_t multiplier_a, const int8_t *b, int32_t multiplier_b, int shift, int lo,
                         int hi, int8_t *out) {
    int i = 0;
#ifdef LH_NEON
    int8x8_t low = vdup_n_s8((int8_t)lo), high = vdup_n_s8((int8_t)hi);
    int32x4_t negative = vdupq_n_s32(-shift);
    for (; i + 8 <= n; i += 8) {
        int16x8_t wide_a = vmovl_s8(vld1_s8(a + i)), wide_b = vmovl_s8(vld1_s8(b + i));
        int32x4_t sum[2] = {vmulq_n_s32(vmovl_s16(vget_low_s16(wide_a)), multiplier_a),
                            vmulq_n_s32(vmovl_high_s16(wide_a), multiplier_a)};
        sum[0] = vmlaq_n_s32(sum[0], vmovl_s16(vget_low_s16(wide_b)), multiplier_b);
        sum[1] = vmlaq_n_s32(sum[1], vmovl_high_s16(wide_b), multiplier_b);
        for (int part = 0; part < 2; ++part) sum[part] = vrshlq_s32(vsraq_n_s32(sum[part], sum[part], 31), negative);
        vst1_s8(out + i, lh_narrow_x8(sum[0], sum[1], low, high));
    }
#endif
    for (; i < n; ++i) {
        int32_t sum = a[i] * multiplier_a + b[i] * multiplier_b;
        sum += sum >> 31;
        out[i] = (int8_t)lh_clamp((sum + (1 << (shift - 1))) >> shift, lo, hi);
    }
}

// out[i] = clamp(round(x[i] * multiplier / 2^shift), lo, hi).
LH_KERNEL void lh_rescale_s8(int n, const int8_t *x, int32_t multiplier, int shift, int lo, int hi, int8_t *out) {
    int i = 0;
#ifdef LH_NEON
    int8x8_t low = vdup_n_s8((int8_t)lo), high = vdup_n_s8((int8_t)hi);
    int32x4_t factor = vdupq_n_s32(multiplier);
    int64x2_t negative = vdupq_n_s64(-shift);
    for (; i + 8 <= n; i += 8) {
        int16x8_t wide = vmovl_s8(vld1_s8(x + i));
        int32x4_t first = lh_scale_x4(vmovl_s16(vget_low_s16(wide)), factor, negative, negative);
        int32x4_t second = lh_scale_x4(vmovl_high_s16(wide), factor, negative, negative);
        vst1_s8(out + i, lh_narrow_x8(first, second, low, high));
    }
#endif
    for (; i < n; ++i) out[i] = (int8_t)lh_clamp(lh_scale(x[i], multiplier, shift), lo, hi);
}

// out[i] = clamp(x[i], lo, hi); lo = 0 is a ReLU.
LH_KERNEL void lh_relu_s8(int n, const int8_t *x, int lo, int hi, int8_t *out) {
    int i = 0;
#ifdef LH_NEON
    int8x16_t low = vdupq_n_s8((int8_t)lo), high = vdupq_n_s8((int8_t)hi);
    for (; i + 16 <= n; i += 16) vst1q_s8(out + i, vminq_s8(vmaxq_s8(vld1q_s8(x + i), low), high));
#endif
    for (; i < n; ++i) out[i] = (int8_t)lh_clamp(x[i], lo, hi);
}

// out[i] = round(clamp(x[i] * inverse_scale, -128, 127)), halves to even; x is finite.
LH_KERNEL void lh_quantise_s8(int n, const float *x, float inverse_scale, int8_t *out) {
    int i = 0;
#ifdef LH_NEON
    float32x4_t low = vdupq_n_f32(-128.0f), high = vdupq_n_f32(127.0f);
    for (; i + 8 <= n; i += 8) {
        int32x4_t half[2];
        for (int part = 0; part < 2; ++part) {
            float32x4_t scaled = vmulq_n_f32(vld1q_f32(x + i + 4 * part), inverse_scale);
            half[part] = vcvtnq_s32_f32(vminq_f32(vmaxq_f32(scaled, low), high));
        }
        vst1_s8(out + i, vmovn_s16(vmovn_high_s32(vmovn_s32(half[0]), half[1])));
    }
#endif
    for (; i < n; ++i) {
        float scaled = x[i] * inverse_scale;
        scaled = scaled < -128.0f ? -128.0f : scaled > 127.0f ? 127.0f : scaled;
        out[i] = (int8_t)__builtin_nearbyintf(scaled);
    }
}

// out[i] = x[i] * scale.
LH_KERNEL void lh_dequantise_s8(int n, const int8_t *x, float scale, float *out) {
    int i = 0;
#ifdef LH_NEON
    for (; i + 8 <= n; i += 8) {
        int16x8_t wide = vmovl_s8(vld1_s8(x + i));
        vst1q_f32(out + i, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), scale));
        vst1q_f32(out + i + 4, vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(wide)), scale));
    }
#endif
    for (; i < n; ++i) out[i] = (float)x[i] * scale;
}

// acc[i] += x[i] * 256: sums over several tiles, with eight bits below the ADC step for the bias.
LH_KERNEL void lh_accumulate_s8(int n, const int8_t *x, int32_t *acc) {
    int i = 0;
#ifdef LH_NEON
    for (; i + 8 <= n; i += 8) {
        int16x8_t wide = vshll_n_s8(vld1_s8(x + i), 8);
        vst1q_s32(acc + i, vaddw_s16(vld1q_s32(acc + i), vget_low_s16(wide)));
        vst1q_s32(acc + i + 4, vaddw_high_s16(vld1q_s32(acc + i + 4), wide));
    }
#endif
    for (; i < n; ++i) acc[i] += x[i] * 256;
}

// acc[i] += x[i] * factor[i]: sums over several tiles whose ADC steps differ.
LH_KERNEL void lh_accumulate_scaled_s8(int n, const int8_t *x, const int16_t *factor, int32_t *acc) {
    int i = 0;
#ifdef LH_NEON
    for (; i + 8 <= n; i += 8) {
        int16x8_t wide = vmovl_s8(vld1_s8(x + i)), factors = vld1q_s16(factor + i);
        vst1q_s32(acc + i, vmlal_s16(vld1q_s32(acc + i), vget_low_s16(wide), vget_low_s16(factors)));
        vst1q_s32(acc + i + 4, vmlal_high_s16(vld1q_s32(acc + i + 4), wide, factors));
    }
#endif
    for (; i < n; ++i) acc[i] += x[i] * factor[i];
}

// --------------------------------------------------------------------------------------------------------------- products

#ifdef LH_NEON
// c[i][j] = sum over k of a[i][k] * b[j][k] for a block of rows and columns that stays in registers.
template <int rows, int cols>
LH_INLINE void lh_block_s8(int k, const int8_t *a, int lda, const int8_t *b, int ldb, int32_t *c, int ldc) {
    int32x4_t sum[rows][cols];
    LH_UNROLL
    for (int i = 0; i < rows; ++i)
        LH_UNROLL
        for (int j = 0; j < cols; ++j) sum[i][j] = vdupq_n_s32(0);
    int at = 0;
    for (; at + 16 <= k; at += 16) {
        int8x16_t right[cols];
        int16x8_t pairs[cols];
        LH_UNROLL
        for (int j = 0; j < cols; ++j) right[j] = vld1q_s8(b + (size_t)j * ldb + at);
        LH_UNROLL
        for (int i = 0; i < rows; ++i) {
            int8x16_t left = vld1q_s8(a + (size_t)i * lda + at);
            LH_UNROLL
            for (int j = 0; j < cols; ++j) pairs[j] = vmull_s8(vget_low_s8(left), vget_low_s8(right[j]));
            LH_UNROLL
            for (int j = 0; j < cols; ++j) pairs[j] = vmlal_high_s8(pairs[j], left, right[j]);
            LH_UNROLL
            for (int j = 0; j < cols; ++j) sum[i][j] = vpadalq_s16(sum[i][j], pairs[j]);
            __asm__ volatile("" : "+w"(sum[i][0]) : : "memory");  // row by row, so that all sums fit the registers
        }
    }
    for (; at + 8 <= k; at += 8)
        LH_UNROLL
        for (int i = 0; i < rows; ++i)
            LH_UNROLL
            for (int j = 0; j < cols; ++j)
                sum[i][j] = vpadalq_s16(
                    sum[i][j], vmull_s8(vld1_s8(a + (size_t)i * lda + at), vld1_s8(b + (size_t)j * ldb + at)));
    LH_UNROLL
    for (int i = 0; i < rows; ++i) {
        int32_t *to = c + (size_t)i * ldc;
        if constexpr (cols == 4) {
            vst1q_s32(to, vpaddq_s32(vpaddq_s32(sum[i][0], sum[i][1]), vpaddq_s32(sum[i][2], sum[i][3])));
        } else {
            LH_UNROLL
            for (int j = 0; j < cols; ++j) to[j] = vaddvq_s32(sum[i][j]);
        }
        for (int rest = at; rest < k; ++rest)
            LH_UNROLL
            for (int j = 0; j < cols; ++j) to[j] += a[(size_t)i * lda + rest] * b[(size_t)j * ldb + rest];
    }
}
#endif

// c[i][j] = sum over k of a[i][k] * b[j][k]; a is (m, k), b is (n, k), c is (m, n). Fastest where k is a multiple of 16.
LH_KERNEL void lh_gemm_s8(int m, int n, int k, const int8_t *a, int lda, const int8_t *b, int ldb, int32_t *c, int ldc) {
#ifdef LH_NEON
    int j = 0;
    for (; j + 4 <= n; j += 4) {
        const int8_t *right = b + (size_t)j * ldb;
        int i = 0;
        for (; i + 4 <= m; i += 4)
            lh_block_s8<4, 4>(k, a + (size_t)i * lda, lda, right, ldb, c + (size_t)i * ldc + j, ldc);
        for (; i < m; ++i) lh_block_s8<1, 4>(k, a + (size_t)i * lda, lda, right, ldb, c + (size_t)i * ldc + j, ldc);
    }
    for (; j < n; ++j) {
        const int8_t *right = b + (size_t)j * ldb;
        int i = 0;
        for (; i + 4 <= m; i += 4)
            lh_block_s8<4, 1>(k, a + (size_t)i * lda, lda, right, ldb, c + (size_t)i * ldc + j, ldc);
        for (; i < m; ++i) lh_block_s8<1, 1>(k, a + (size_t)i * lda, lda, right, ldb, c + (size_t)i * ldc + j, ldc);
    }
#else
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            const int8_t *left = a + (size_t)i * lda, *right = b + (size_t)j * ldb;
            int32_t sum = 0;
            for (int at = 0; at < k; ++at) sum += left[at] * right[at];
            c[(size_t)i * ldc + j] = sum;
        }
#endif
}

#ifdef LH_NEON
template <int rows, int quads>
LH_INLINE void lh_block_f32(int k, const float *a, int lda, const float *b, int ldb, float *c, int ldc) {
    float32x4_t sum[rows][quads];
    LH_UNROLL
    for (int i = 0; i < rows; ++i)
        LH_UNROLL
        for (int j = 0; j < quads; ++j) sum[i][j] = vdupq_n_f32(0.0f);
    for (int at = 0; at < k; ++at) {
        float32x4_t right[quads];
        LH_UNROLL
        for (int j = 0; j < quads; ++j) right[j] = vld1q_f32(b + (size_t)at * ldb + 4 * j);
        LH_UNROLL
        for (int i = 0; i < rows; ++i)
            LH_UNROLL
            for (int j = 0; j < quads; ++j) sum[i][j] = vfmaq_n_f32(sum[i][j], right[j], a[(size_t)i * lda + at]);
    }
    LH_UNROLL
    for (int i = 0; i < rows; ++i)
        LH_UNROLL
        for (int j = 0; j < quads; ++j) vst1q_f32(c + (size_t)i * ldc + 4 * j, sum[i][j]);
}

template <int quads>
LH_INLINE void lh_columns_f32(int m, int k, const float *a, int lda, const float *b, int ldb, float *c, int ldc) {
    int i = 0;
    for (; i + 4 <= m; i += 4) lh_block_f32<4, quads>(k, a + (size_t)i * lda, lda, b, ldb, c + (size_t)i * ldc, ldc);
    for (; i < m; ++i) lh_block_f32<1, quads>(k, a + (size_t)i * lda, lda, b, ldb, c + (size_t)i * ldc, ldc);
}
#endif

// c[i][j] = sum over k of a[i][k] * b[k][j]; a is (m, k), b is (k, n), c is (m, n). Sums run over k in order; NEON fuses
// multiplication and addition, so the last bits may differ from the portable path.
LH_KERNEL void lh_gemm_f32(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float *c, int ldc) {
    int j = 0;
#ifdef LH_NEON
    for (; j + 16 <= n; j += 16) lh_columns_f32<4>(m, k, a, lda, b + j, ldb, c + j, ldc);
    for (; j + 4 <= n; j += 4) lh_columns_f32<1>(m, k, a, lda, b + j, ldb, c + j, ldc);
#endif
    for (; j < n; ++j)
        for (int i = 0; i < m; ++i) {
            float sum = 0.0f;
            for (int at = 0; at < k; ++at) sum += a[(size_t)i * lda + at] * b[(size_t)at * ldb + j];
            c[(size_t)i * ldc + j] = sum;
        }
}

// ---------------------------------------------------------------------------------------------------------------- patches

// Which pixels of a window lie inside the image along one axis: from `first` to before `last`.
struct lh_span {
    int first, last;
};

LH_INLINE lh_span lh_inside(int start, int dilation, int kernel, int size) {
    lh_span span = {0, kernel};
    if (start >= 0 && start + (kernel - 1) * dilation < size) return span;
    while (span.first < kernel && start + span.first * dilation < 0) ++span.first;
    while (span.last > span.first && start + (span.last - 1) * dilation >= size) --span.last;
    return span;
}

// Copies n bytes without a call of memcpy, which costs more than the common short copies. The last block may overlap.
LH_INLINE void lh_copy(void *to, const void *from, int n) {
    char *out = (char *)to;
    const char *in = (const char *)from;
    if (n >= 16) {
        int at = 0;
        for (; at + 16 <= n; at += 16) { LH_KEEP_LOOP; std::memcpy(out + at, in + at, 16); }
        if (at < n) std::memcpy(out + n - 16, in + n - 16, 16);
    } else if (n >= 8) {
        std::memcpy(out, in, 8), std::memcpy(out + n - 8, in + n - 8, 8);
    } else if (n >= 4) {
        std::memcpy(out, in, 4), std::memcpy(out + n - 4, in + n - 4, 4);
    } else {
        for (int at = 0; at < n; ++at) { LH_KEEP_LOOP; out[at] = in[at]; }
    }
}

LH_INLINE void lh_zero(void *to, int n) {
    char *out = (char *)to;
    if (n >= 16) {
        int at = 0;
        for (; at + 16 <= n; at += 16) { LH_KEEP_LOOP; std::memset(out + at, 0, 16); }
        if (at < n) std::memset(out + n - 16, 0, 16);
    } else {
        for (int at = 0; at < n; ++at) { LH_KEEP_LOOP; out[at] = 0; }
    }
}

// The patch of one output pixel, of `count` channels from `first`: (kernel_h, kernel_w, count), then zeros up to ld.
template <typename T>
LH_INLINE void lh_patch(const lh_window &w, const T *x, int row, int col, int first, int count, T *out, int ld) {
    int y0 = row * w.stride_h - w.pad_h, x0 = col * w.stride_w - w.pad_w;
    int size = (int)sizeof(T) * count, run = size * w.kernel_w, next = w.kernel_w * count;
    ptrdiff_t stride = (ptrdiff_t)w.dilation_h * w.width * w.channels;
    const T *line = x + ((ptrdiff_t)y0 * w.width + x0) * w.channels + first;
    bool joined = count == w.channels && w.dilation_w == 1;
    T *to = out;
    if (joined && y0 >= 0 && x0 >= 0 && x0 + w.kernel_w <= w.width && y0 + (w.kernel_h - 1) * w.dilation_h < w.height) {
        for (int ky = 0; ky < w.kernel_h; ++ky, line += stride, to += next) lh_copy(to, line, run);
        if (to != out + ld) lh_zero(to, (int)sizeof(T) * (int)(out + ld - to));
        return;
    }
    lh_span rows = lh_inside(y0, w.dilation_h, w.kernel_h, w.height), cols = lh_inside(x0, w.dilation_w, w.kernel_w, w.width);
    bool clipped = cols.first > 0 || cols.last < w.kernel_w;
    line += rows.first * stride;
    if (rows.first > 0) lh_zero(to, run * rows.first), to += next * rows.first;
    for (int ky = rows.first; ky < rows.last; ++ky, line += stride, to += next) {
        if (joined && !clipped) {
            lh_copy(to, line, run);
            continue;
        }
        if (clipped) lh_zero(to, run);
        if (joined) {
            lh_copy(to + cols.first * count, line + cols.first * count, size * (cols.last - cols.first));
        } else {
            for (int kx = cols.first; kx < cols.last; ++kx)
                lh_copy(to + kx * count, line + (ptrdiff_t)(kx * w.dilation_w) * w.channels, size);
        }
    }
    lh_zero(to, (int)sizeof(T) * (int)(out + ld - to));
}

LH_KERNEL void lh_gather_patch_s8(const lh_window *w, const int8_t *x, int row, int col, int first, int count, int8_t *out,
                                  int ld) {
    lh_patch(*w, x, row, col, first, count, out, ld);
}

// Elements first to first + count of a vector.
struct lh_segment {
    int first, count;
};

// Copies the segments of x one after the other: the inputs of tiles, tile by tile.
LH_KERNEL void lh_regroup_s8(int n, const lh_segment *segments, const int8_t *x, int8_t *out) {
    for (int i = 0; i < n; out += segments[i++].count) lh_copy(out, x + segments[i].first, segments[i].count);
}

// The patches of output rows `row` to `row + rows`, one patch per line of ld elements: (rows * out_w, ld).
LH_KERNEL void lh_im2col_s8(const lh_window *w, const int8_t *x, int row, int rows, int first, int count, int8_t *out, int ld) {
    for (int i = 0; i < rows; ++i)
        for (int j = 0; j < w->out_w; ++j, out += ld) lh_patch(*w, x, row + i, j, first, count, out, ld);
}

LH_KERNEL void lh_im2col_f32(const lh_window *w, const float *x, int row, int rows, int first, int count, float *out, int ld) {
    for (int i = 0; i < rows; ++i)
        for (int j = 0; j < w->out_w; ++j, out += ld) lh_patch(*w, x, row + i, j, first, count, out, ld);
}

// Copies every step-th pixel of an image (height, width, channels) into an image of zeros (out_h, out_w, out_channels), from
// pixel (top, left) and channel `first` on.
LH_KERNEL void lh_place_s8(const int8_t *x, int height, int width, int channels, int step_h, int step_w, int8_t *out, int out_h,
                           int out_w, int out_channels, int top, int left, int first) {
    std::memset(out, 0, (size_t)out_h * out_w * out_channels);
    for (int row = 0; row < height; row += step_h)
        for (int col = 0; col < width; col += step_w)
            lh_copy(out + ((size_t)(row / step_h + top) * out_w + col / step_w + left) * out_channels + first,
                    x + ((size_t)row * width + col) * channels, channels);
}

// Depthwise convolution of one output row: acc is (out_w, channels), weights are (kernel_h, kernel_w,
// channels).
LH_KERNEL void lh_depthwise_s8(const lh_window *w, const int8_t *x, const int8_t *weights, int row, int32_t *acc) {
    int n = w->channels, y0 = row * w->stride_h - w->pad_h;
    size_t step_x = (size_t)w->dilation_w * n, step_y = (size_t)w->dilation_h * w->width * n;
    lh_span rows = lh_inside(y0, w->dilation_h, w->kernel_h, w->height);
    for (int col = 0; col < w->out_w; ++col, acc += n) {
        int x0 = col * w->stride_w - w->pad_w, c = 0;
        lh_span cols = lh_inside(x0, w->dilation_w, w->kernel_w, w->width);
        const int8_t *corner =
            x + ((ptrdiff_t)(y0 + rows.first * w->dilation_h) * w->width + x0 + cols.first * w->dilation_w) * n;
        const int8_t *first = weights + (size_t)(rows.first * w->kernel_w + cols.first) * n;
#ifdef LH_NEON
        for (; c + 16 <= n; c += 16) {
            int32x4_t sum[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
            for (int ky = rows.first; ky < rows.last; ++ky) {
                const int8_t *pixel = corner + (ky - rows.first) * step_y + c;
                const int8_t *weight = first + (size_t)(ky - rows.first) * w->kernel_w * n + c;
                for (int kx = cols.first; kx < cols.last; ++kx, pixel += step_x, weight += n) {
                    int8x16_t value = vld1q_s8(pixel), factor = vld1q_s8(weight);
                    int16x8_t low = vmull_s8(vget_low_s8(value), vget_low_s8(factor)), high = vmull_high_s8(value, factor);
                    sum[0] = vaddw_s16(sum[0], vget_low_s16(low));
                    sum[1] = vaddw_high_s16(sum[1], low);
                    sum[2] = vaddw_s16(sum[2], vget_low_s16(high));
                    sum[3] = vaddw_high_s16(sum[3], high);
                }
            }
            LH_UNROLL
            for (int part = 0; part < 4; ++part) vst1q_s32(acc + c + 4 * part, sum[part]);
        }
        for (; c + 8 <= n; c += 8) {
            int32x4_t low = vdupq_n_s32(0), high = vdupq_n_s32(0);
            for (int ky = rows.first; ky < rows.last; ++ky) {
                const int8_t *pixel = corner + (ky - rows.first) * step_y + c;
                const int8_t *weight = first + (size_t)(ky - rows.first) * w->kernel_w * n + c;
                for (int kx = cols.first; kx < cols.last; ++kx, pixel += step_x, weight += n) {
                    int16x8_t products = vmull_s8(vld1_s8(pixel), vld1_s8(weight));
                    low = vaddw_s16(low, vget_low_s16(products));
                    high = vaddw_high_s16(high, products);
                }
            }
            vst1q_s32(acc + c, low);
            vst1q_s32(acc + c + 4, high);
        }
#endif
        for (; c < n; ++c) {
            int32_t sum = 0;
            for (int ky = rows.first; ky < rows.last; ++ky) {
                const int8_t *pixel = corner + (ky - rows.first) * step_y + c;
                const int8_t *weight = first + (size_t)(ky - rows.first) * w->kernel_w * n + c;
                for (int kx = cols.first; kx < cols.last; ++kx, pixel += step_x, weight += n) sum += *pixel * *weight;
            }
            acc[c] = sum;
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------- pooling

// The largest value of each window over the pixels inside the image: (out_h, out_w, channels).
LH_KERNEL void lh_max_pool_s8(const lh_window *w, const int8_t *x, int8_t *out) {
    int n = w->channels;
    size_t step_x = (size_t)w->dilation_w * n, step_y = (size_t)w->dilation_h * w->width * n;
    for (int row = 0; row < w->out_h; ++row) {
        int y0 = row * w->stride_h - w->pad_h;
        lh_span rows = lh_inside(y0, w->dilation_h, w->kernel_h, w->height);
        for (int col = 0; col < w->out_w; ++col, out += n) {
            int x0 = col * w->stride_w - w->pad_w, c = 0;
            lh_span cols = lh_inside(x0, w->dilation_w, w->kernel_w, w->width);
            const int8_t *corner =
                x + ((ptrdiff_t)(y0 + rows.first * w->dilation_h) * w->width + x0 + cols.first * w->dilation_w) * n;
#ifdef LH_NEON
            for (; c + 16 <= n; c += 16) {
                int8x16_t largest = vdupq_n_s8(-128);
                for (int ky = rows.first; ky < rows.last; ++ky) {
                    const int8_t *pixel = corner + (ky - rows.first) * step_y + c;
                    for (int kx = cols.first; kx < cols.last; ++kx, pixel += step_x)
                        largest = vmaxq_s8(largest, vld1q_s8(pixel));
                }
                vst1q_s8(out + c, largest);
            }
#endif
            for (; c < n; ++c) {
                int8_t largest = -128;
                for (int ky = rows.first; ky < rows.last; ++ky) {
                    const int8_t *pixel = corner + (ky - rows.first) * step_y + c;
                    for (int kx = cols.first; kx < cols.last; ++kx, pixel += step_x)
                        largest = *pixel > largest ? *pixel : largest;
                }
                out[c] = largest;
            }
        }
    }
}

// The sum of each window, scaled as in `lh_requantise` without a bias: (out_h, out_w, channels). The multiplier includes the
// division by the window size; pixels outside the image are zero. `sums` has one element for each channel. A window of the size
// of the image is a global average.
LH_KERNEL void lh_average_pool_s8(const lh_window *w, const int8_t *x, int32_t multiplier, int shift, int32_t *sums,
                                  int8_t *out) {
    int n = w->channels;
    size_t step_x = (size_t)w->dilation_w * n, step_y = (size_t)w->dilation_h * w->width * n;
    for (int row = 0; row < w->out_h; ++row) {
        int y0 = row * w->stride_h - w->pad_h;
        lh_span rows = lh_inside(y0, w->dilation_h, w->kernel_h, w->height);
        for (int col = 0; col < w->out_w; ++col, out += n) {
            int x0 = col * w->stride_w - w->pad_w, c = 0;
            lh_span cols = lh_inside(x0, w->dilation_w, w->kernel_w, w->width);
            const int8_t *corner =
                x + ((ptrdiff_t)(y0 + rows.first * w->dilation_h) * w->width + x0 + cols.first * w->dilation_w) * n;
#ifdef LH_NEON
            for (; c + 8 <= n; c += 8) {
                int32x4_t low = vdupq_n_s32(0), high = vdupq_n_s32(0);
                for (int ky = rows.first; ky < rows.last; ++ky) {
                    const int8_t *pixel = corner + (ky - rows.first) * step_y + c;
                    for (int kx = cols.first; kx < cols.last; ++kx, pixel += step_x) {
                        int16x8_t wide = vmovl_s8(vld1_s8(pixel));
                        low = vaddw_s16(low, vget_low_s16(wide));
                        high = vaddw_high_s16(high, wide);
                    }
                }
                vst1q_s32(sums + c, low);
                vst1q_s32(sums + c + 4, high);
            }
#endif
            for (; c < n; ++c) {
                int32_t sum = 0;
                for (int ky = rows.first; ky < rows.last; ++ky) {
                    const int8_t *pixel = corner + (ky - rows.first) * step_y + c;
                    for (int kx = cols.first; kx < cols.last; ++kx, pixel += step_x) sum += *pixel;
                }
                sums[c] = sum;
            }
            for (c = 0; c < n; ++c) out[c] = (int8_t)lh_clamp(lh_scale(sums[c], multiplier, shift), -128, 127);
        }
    }
}

// ----------------------------------------------------------------------------------------------------------- floating point

// e^x with a relative error of about 2e-7, for x clamped to [-87, 88].
LH_INLINE float lh_exp(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = __builtin_nearbyintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;  // ln 2 in two parts
    float e = 1.0f + r * (1.0f + r * (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720))))));
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return e * power;
}

#ifdef LH_NEON
LH_INLINE float32x4_t lh_exp_x4(float32x4_t x) {
    x = vminq_f32(vmaxq_f32(x, vdupq_n_f32(-87.0f)), vdupq_n_f32(88.0f));
    float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
    float32x4_t r = vfmaq_n_f32(vfmsq_n_f32(x, n, 0.693359375f), n, 2.12194440e-4f);
    float32x4_t e = vdupq_n_f32(1.0f / 720);
    const float coefficients[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    for (float each : coefficients) e = vfmaq_f32(vdupq_n_f32(each), e, r);
    int32x4_t bits = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
    return vmulq_f32(e, vreinterpretq_f32_s32(bits));
}
#endif

LH_KERNEL void lh_sigmoid_f32(int n, const float *x, float *out) {
    int i = 0;
#ifdef LH_NEON
    float32x4_t one = vdupq_n_f32(1.0f);
    for (; i + 4 <= n; i += 4)
        vst1q_f32(out + i, vdivq_f32(one, vaddq_f32(one, lh_exp_x4(vnegq_f32(vld1q_f32(x + i))))));
#endif
    for (; i < n; ++i) out[i] = 1.0f / (1.0f + lh_exp(-x[i]));
}

LH_KERNEL void lh_tanh_f32(int n, const float *x, float *out) {
    int i = 0;
#ifdef LH_NEON
    float32x4_t one = vdupq_n_f32(1.0f), two = vdupq_n_f32(2.0f);
    for (; i + 4 <= n; i += 4) {
        float32x4_t decay = lh_exp_x4(vmulq_n_f32(vld1q_f32(x + i), -2.0f));
        vst1q_f32(out + i, vsubq_f32(vdivq_f32(two, vaddq_f32(one, decay)), one));
    }
#endif
    for (; i < n; ++i) out[i] = 2.0f / (1.0f + lh_exp(-2.0f * x[i])) - 1.0f;
}

// Softmax of each of `rows` rows.
LH_KERNEL void lh_softmax_f32(int rows, int cols, const float *x, float *out) {
    for (int i = 0; i < rows; ++i, x += cols, out += cols) {
        float largest = x[0], sum = 0.0f;
        int j = 0;
#ifdef LH_NEON
        if (cols >= 4) {
            float32x4_t largest_x4 = vld1q_f32(x);
            for (j = 4; j + 4 <= cols; j += 4) largest_x4 = vmaxq_f32(largest_x4, vld1q_f32(x + j));
            largest = vmaxvq_f32(largest_x4);
        }
#endif
        for (; j < cols; ++j) largest = largest < x[j] ? x[j] : largest;
        j = 0;
#ifdef LH_NEON
        float32x4_t sum_x4 = vdupq_n_f32(0.0f);
        for (; j + 4 <= cols; j += 4) {
            float32x4_t power = lh_exp_x4(vsubq_f32(vld1q_f32(x + j), vdupq_n_f32(largest)));
            vst1q_f32(out + j, power);
            sum_x4 = vaddq_f32(sum_x4, power);
        }
        sum = vaddvq_f32(sum_x4);
#endif
        for (; j < cols; ++j) sum += out[j] = lh_exp(x[j] - largest);
        float inverse = 1.0f / sum;
        for (j = 0; j < cols; ++j) out[j] *= inverse;
    }
}

LH_KERNEL void lh_relu_f32(int n, const float *x, float *out) {
    for (int i = 0; i < n; ++i) out[i] = x[i] > 0.0f ? x[i] : 0.0f;
}

LH_KERNEL void lh_add_f32(int n, const float *a, const float *b, float *out) {
    for (int i = 0; i < n; ++i) out[i] = a[i] + b[i];
}

#endif  // LIONHEART_KERNELS_H
