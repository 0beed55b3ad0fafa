// Kernels with one planted bug each. The comment REPORT stands on the line that the emulator must name, with words it must say.

extern "C" __global__ void race_read(const float* x, float* y) {  // right if threads run in forward order
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = threadIdx.x ? s[threadIdx.x - 1] : 0.f;  // REPORT race: read of static shared memory
}

extern "C" __global__ void race_write(const float* x, float* y) {  // no barrier at the end of the loop
    __shared__ float s[64];
    float sum = 0.f;
    for (int k = 0; k < 2; ++k) {
        s[threadIdx.x] = x[threadIdx.x] * k;
        __syncthreads();
        for (int j = 0; j < 64; ++j) sum += s[j];  // REPORT race: read of static shared memory
    }
    y[threadIdx.x] = sum;
}

extern "C" __global__ void race_same_value(const float* x, float* y) {  // right in every order, and still a race
    __shared__ float s;
    s = x[0];  // REPORT race: write of static shared memory
    __syncthreads();
    y[threadIdx.x] = s;
}

extern "C" __global__ void race_bytes(const float* x, float* y) {
    __shared__ bool positive[64];
    positive[threadIdx.x] = x[threadIdx.x] > 0.f;
    y[threadIdx.x] = positive[threadIdx.x & ~1];  // REPORT race: read of static shared memory
}

extern "C" __global__ void race_warp(const float* x, float* y) {  // a shuffle exchanges values, but does not order memory
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    const float v = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
    y[threadIdx.x] = s[threadIdx.x ^ 1] + v;  // REPORT race: read of static shared memory
}

extern "C" __global__ void race_blocks(const float* x, float* y) {
    if (threadIdx.x == 0) y[0] += x[blockIdx.x];  // REPORT race: read of argument y
}

extern "C" __global__ void race_no_fence(const float* x, float* y) {  // the last block sums up, but nothing was released
    __shared__ bool last;
    if (threadIdx.x == 0) {
        y[1 + blockIdx.x] = x[blockIdx.x];
        last = atomicAdd(y, 1.f) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0)
        for (int i = 1; i < int(gridDim.x); ++i) y[1] += y[1 + i];  // REPORT race: read of argument y
}

extern "C" __global__ void divergent_lines(const float* x, float* y) {
    if (threadIdx.x < 32) {
        __syncthreads();
        y[threadIdx.x] = x[threadIdx.x];
    } else {
        __syncthreads();  // REPORT divergent barrier
        y[threadIdx.x] = 0.f;
    }
}

extern "C" __global__ void divergent_return(const float* x, float* y) {
    if (threadIdx.x >= 40) return;
    __syncthreads();  // REPORT divergent barrier: reached by 40 of 64 threads
    y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void deadlock(const float* x, float* y) {
    float v = x[threadIdx.x];
    if (threadIdx.x & 1) __syncthreads();
    v = __shfl_xor_sync(0xffffffffu, v, 1);  // REPORT deadlock: thread 0 waits in __shfl_xor_sync
    y[threadIdx.x] = v;
}

extern "C" __global__ void missing_lane(const float* x, float* y) {
    y[threadIdx.x] = __shfl_sync(0x0000ffffu, x[threadIdx.x], 0);  // REPORT is not in its own mask
}

extern "C" __global__ void bounds_read(const float* x, float* y) {
    y[threadIdx.x] = x[threadIdx.x + 64];  // REPORT out of bounds: read of 4 bytes at offset 256 of argument x
}

extern "C" __global__ void bounds_write(const float* x, float* y) {
    y[int(threadIdx.x) - 1] = x[threadIdx.x];  // REPORT out of bounds: write of 4 bytes at offset -4 of argument y
}

extern "C" __global__ void bounds_shared(const float* x, float* y) {
    __shared__ float s[64];
    __shared__ float behind[64];
    behind[threadIdx.x] = 0.f;
    s[threadIdx.x + 1] = x[threadIdx.x];  // REPORT out of bounds: array index
    __syncthreads();
    y[threadIdx.x] = behind[threadIdx.x];
}

extern "C" __global__ void bounds_dynamic(const float* x, float* y) {
    extern __shared__ float d[];
    d[threadIdx.x + 1] = x[threadIdx.x];  // REPORT out of bounds: write of 4 bytes at offset 256 of dynamic shared memory
    y[threadIdx.x] = d[threadIdx.x + 1];
}

extern "C" __global__ void uninitialized(const float* x, float* y) {
    __shared__ float s[64];
    if (threadIdx.x < 63) s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];  // REPORT read of uninitialized static shared memory
}

extern "C" __global__ void const_write(const float* x, float* y) {
    const_cast<float*>(x)[threadIdx.x] = 0.f;  // REPORT through a pointer to const
    y[threadIdx.x] = 1.f;
}

extern "C" __global__ void misaligned(const float* x, float* y) {
    const float4 v = *reinterpret_cast<const float4*>(x + 1);  // REPORT misaligned
    y[threadIdx.x] = v.x + v.w;
}

extern "C" __global__ void foreign_local(const float* x, float* y) {
    __shared__ float* shared;
    float mine = x[threadIdx.x];
    if (threadIdx.x == 5) shared = &mine;
    __syncthreads();
    y[threadIdx.x] = *shared;  // REPORT another thread's local variable
    __syncthreads();
}
