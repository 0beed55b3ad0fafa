// Kernels that no floating dtype varies: counters, and partial sums (update/).

#include "common.cuh"

// One block per counter.
extern "C" __global__ void increment(Arrays<long long> counters, const Table sizes) {
    for (i64 i = threadIdx.x; i < sizes.at[blockIdx.x]; i += blockDim.x) ++counters.at[blockIdx.x][i];
}

// sums.at[i][k] = Σ parts[block, k] over the blocks of array i, which begin with starts.at[i]: a warp for each i and k.
extern "C" __global__ void fold(const double* parts, Arrays<double> sums, const Counts starts, int blocks, int count) {
    const int i = blockIdx.x / count, k = blockIdx.x % count;
    const int stop = i + 1 < GROUP ? starts.at[i + 1] : blocks;
    double total = 0;
    for (int block = starts.at[i] + threadIdx.x; block < stop; block += 32) total += parts[i64(count) * block + k];
    total = warp_reduce(total, Sum());
    if (threadIdx.x == 0) sums.at[i][k] = total;
}
