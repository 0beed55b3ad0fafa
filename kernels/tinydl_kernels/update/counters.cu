// Kernels that no floating dtype varies: counters (update/).

#include "common.cuh"

// One block per counter.
extern "C" __global__ void increment(Arrays<long long> counters, const Table sizes) {
    for (i64 i = threadIdx.x; i < sizes.at[blockIdx.x]; i += blockDim.x) ++counters.at[blockIdx.x][i];
}
