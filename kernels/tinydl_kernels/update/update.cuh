// What the generated kernels of the optimizers share (emission.py). One launch serves up to 64 arrays, cut into chunks:
//
//     array     0         1  2       3
//     chunks    [ | | | ] [] [ | | ] []         block b works on chunk b, array i begins with chunk starts.at[i]
//     starts    0         4  5       8
//
// Options, counts and coefficients come from memory, so that a launch can be replayed.

#include "common.cuh"

constexpr int WIDTH = 16 / sizeof(real);  // elements of a pack; those of a chunk, CHUNK, come from emission.py
using Reals = Pack<real, WIDTH>;

// The array that this block works on.
__device__ int member(const Counts& starts) {
    int i = 0;
    for (int half = 32; half > 0; half /= 2)
        if (starts.at[i + half] <= int(blockIdx.x)) i += half;
    return i;
}

// Calls f(n, first) for each pack that this thread works on: that from element `first` of array i, which has n.
template <class F> __device__ void each_pack(int i, const Table& sizes, const Counts& starts, F f) {
    const i64 n = sizes.at[i], begin = i64(int(blockIdx.x) - starts.at[i]) * CHUNK;
    const i64 end = begin + CHUNK < n ? begin + CHUNK : n;
    for (i64 first = begin + WIDTH * threadIdx.x; first < end; first += WIDTH * blockDim.x) f(n, first);
}

// x, or 0 where it is subnormal (expression.py says why).
__device__ float normal(float x) { return fabsf(x) < 1.17549435e-38f ? 0 : x; }
__device__ double normal(double x) { return fabs(x) < 2.2250738585072014e-308 ? 0 : x; }

template <class T> __device__ T sign(T x) { return x > 0 ? T(1) : x < 0 ? T(-1) : x == x ? T(0) : x; }
template <class T> __device__ T maximum(T a, T b) { return a != a || a > b ? a : b; }
template <class T> __device__ T minimum(T a, T b) { return a != a || a < b ? a : b; }
