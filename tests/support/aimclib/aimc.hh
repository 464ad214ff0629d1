// The signatures of the released AIMClib (gem5-X/ALPINE), written for tests: emitted programs must compile with them. Vectors and
// matrices are not const, a matrix is written without a tile number, and there is no ADC scale.
#pragma once

#include <stdint.h>

inline void aimcProcess(int tid = 0) { (void)tid; }
inline void aimcQueue(uint64_t rm, int tid = 0) { (void)rm, (void)tid; }
inline uint64_t aimcDequeue(int tid = 0) { return (void)tid, 0; }
inline uint64_t aimcParamRead(uint64_t rm, uint64_t rn, uint64_t ra, int tid = 0) { return (void)rn, (void)ra, (void)tid, rm; }
inline uint64_t aimcParamWrite(uint64_t rm, uint64_t rn, uint64_t ra, int tid = 0) { return (void)rm, (void)rn, (void)tid, ra; }

inline void queueVector(int size, int8_t *v, int tid = 0) {
    for (int i = 0; i < size; i++) aimcQueue((uint64_t)v[i], tid);
}

inline void dequeueVector(int size, int8_t *v, int tid = 0) {
    for (int i = 0; i < size; i++) v[i] = (int8_t)aimcDequeue(tid);
}

inline void mapMatrix(int aimc_x, int aimc_y, int height, int width, int8_t **m) {
    for (int i = 0; i < width; i++)
        for (int j = 0; j < height; j++) aimcParamWrite((uint64_t)(i + aimc_x), (uint64_t)(j + aimc_y), (uint64_t)m[j][i]);
}
