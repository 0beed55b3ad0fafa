// Kernels that no floating dtype varies: counters and rates between steps (update.py).

#include "common.cuh"

// One block per counter.
extern "C" __global__ void increment(Arrays<long long> counters, const Table sizes) {
    for (i64 i = threadIdx.x; i < sizes.at[blockIdx.x]; i += blockDim.x) ++counters.at[blockIdx.x][i];
}

// One thread: target = base factors[k], where k of the boundaries are reached.
extern "C" __global__ void piecewise(double* target, const double* base, const long long* step, const long long* boundaries,
                                     const double* factors, long long count) {
    int k = 0;
    while (k < count && boundaries[k] <= *step) ++k;
    *target = *base * factors[k];
}
