// Kernels that no floating dtype varies: counters (update/), rows with a one (indexing.py).

#include "common.cuh"

// One block a counter.
extern "C" __global__ void increment(Arrays<long long> counters, const Table sizes) {
    for (i64 i = threadIdx.x; i < sizes.at[blockIdx.x]; i += blockDim.x) ++counters.at[blockIdx.x][i];
}

// out[i, c] = 1 where c is index[i], else 0.
extern "C" __global__ void one_hot(const long long* index, long long* out, long long n, long long classes) {
    for (i64 i = first(); i < n; i += stride()) out[i] = index[i / classes] == i % classes;
}
