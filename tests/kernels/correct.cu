// Correct kernels whose barriers all matter: the checker accepts each, and reports each mutant that lacks one of them.

constexpr int TILE = 8;

// C = A @ B, row-major (M,K) (K,N) (M,N), for any sizes.
extern "C" __global__ void __launch_bounds__(TILE * TILE)
matmul(const float* __restrict__ A, const float* __restrict__ B, float* __restrict__ C, int M, int N, int K) {
    __shared__ float a[TILE][TILE + 1], b[TILE][TILE];
    const int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * TILE + ty, col = blockIdx.x * TILE + tx;
    float sum = 0.f;
    for (int k0 = 0; k0 < K; k0 += TILE) {
        a[ty][tx] = row < M && k0 + tx < K ? A[row * K + k0 + tx] : 0.f;
        b[ty][tx] = k0 + ty < K && col < N ? B[(k0 + ty) * N + col] : 0.f;
        __syncthreads();
        for (int k = 0; k < TILE; ++k) sum += a[ty][k] * b[k][tx];
        __syncthreads();
    }
    if (row < M && col < N) C[row * N + col] = sum;
}

__device__ float warp_sum(float v) {
    for (int offset = 16; offset > 0; offset /= 2) v += __shfl_down_sync(0xffffffffu, v, offset);
    return v;
}

// y = sum of x[n]: shuffles within a warp, shared memory within a block, and the last block to finish sums the partials.
extern "C" __global__ void total(const float* x, float* partial, unsigned int* done, float* y, int n) {
    __shared__ float warps[32];
    __shared__ bool last;
    float sum = 0.f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        sum = 0.f;
        for (int w = 0; w < int(blockDim.x / 32); ++w) sum += warps[w];
        partial[blockIdx.x] = sum;
        __threadfence();
        last = atomicInc(done, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x < 32) {
        sum = 0.f;
        for (int i = threadIdx.x; i < int(gridDim.x); i += 32) sum += partial[i];
        sum = warp_sum(sum);
        if (threadIdx.x == 0) *y = sum;
    }
}

// Counts of bytes: atomics on shared and on global memory.
extern "C" __global__ void histogram(const unsigned char* x, unsigned int* counts, int n) {
    __shared__ unsigned int s[256];
    for (int i = threadIdx.x; i < 256; i += blockDim.x) s[i] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&s[x[i]], 1u);
    __syncthreads();
    for (int i = threadIdx.x; i < 256; i += blockDim.x) atomicAdd(&counts[i], s[i]);
}

// y = running sum of each block's x (Hillis and Steele), in dynamic shared memory.
extern "C" __global__ void scan(const float* x, float* y) {
    extern __shared__ float s[];
    const int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    s[t] = x[i];
    __syncthreads();
    for (int offset = 1; offset < int(blockDim.x); offset *= 2) {
        const float v = t >= offset ? s[t - offset] : 0.f;
        __syncthreads();
        s[t] += v;
        __syncthreads();
    }
    y[i] = s[t];
}

// Neighbours exchange through shared memory within a warp, then vote: y = x of the neighbour if any in the warp is negative.
extern "C" __global__ void exchange(const float* x, float* y) {
    __shared__ float s[64];
    const int t = threadIdx.x;
    s[t] = x[t];
    __syncwarp();
    const float other = s[t ^ 1];
    const unsigned int negative = __ballot_sync(0xffffffffu, x[t] < 0.f);
    y[t] = negative && __any_sync(0xffffffffu, negative >> (t % 32) & 1) ? other : __shfl_sync(0xffffffffu, x[t], 3);
}
