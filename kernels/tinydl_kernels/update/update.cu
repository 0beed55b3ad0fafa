// The optimizers' steps: the twins of update.py, which has the formulas. One launch serves up to 64 arrays, cut into chunks:
//
//     array     0         1  2       3
//     chunks    [ | | | ] [] [ | | ] []         block b works on chunk b, array i begins with chunk starts.at[i]
//     starts    0         4  5       8
//
// Rate and step number come from memory, so that a launch can be replayed.

#include "common.cuh"

constexpr int CHUNK = 2048, WIDTH = 16 / sizeof(real);  // elements of a chunk, and of a pack
using Reals = Pack<real, WIDTH>;

// The array that this block works on.
__device__ int member(const Table& starts) {
    int i = 0;
    for (int half = 32; half > 0; half /= 2)
        if (starts.at[i + half] <= blockIdx.x) i += half;
    return i;
}

// Calls f(i, n, first) for each pack that this thread works on: that from element `first` of array i, which has n.
template <class F> __device__ void each_pack(const Table& sizes, const Table& starts, F f) {
    const int i = member(starts);
    const i64 n = sizes.at[i], begin = (blockIdx.x - starts.at[i]) * CHUNK, end = begin + CHUNK < n ? begin + CHUNK : n;
    for (i64 first = begin + WIDTH * threadIdx.x; first < end; first += WIDTH * blockDim.x) f(i, n, first);
}

extern "C" __global__ void sgd(const double* lr, Arrays<real> params, Arrays<const real> grads, const Table sizes,
                               const Table starts, double weight_decay) {
    const real rate = real(*lr), decay = real(weight_decay);
    each_pack(sizes, starts, [&](int i, i64 n, i64 first) {
        Reals p, g;
        load(params.at[i], first, n, p);
        load(grads.at[i], first, n, g);
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) p.element[j] -= rate * (g.element[j] + decay * p.element[j]);
        store(params.at[i], first, n, p);
    });
}

extern "C" __global__ void momentum(const double* lr, Arrays<real> params, Arrays<const real> grads, Arrays<real> buffers,
                                    Arrays<const long long> steps, const Table sizes, const Table starts, double momentum,
                                    double dampening, bool nesterov, double weight_decay) {
    const real rate = real(*lr), decay = real(weight_decay), ahead = real(momentum);
    each_pack(sizes, starts, [&](int i, i64 n, i64 first) {
        const bool begun = *steps.at[i] != 0;
        const real keep = begun ? ahead : real(0), fresh = begun ? real(1 - dampening) : real(1);
        Reals p, g, smooth;
        load(params.at[i], first, n, p);
        load(grads.at[i], first, n, g);
        load(buffers.at[i], first, n, smooth);
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) {
            const real d = g.element[j] + decay * p.element[j];
            smooth.element[j] = keep * smooth.element[j] + fresh * d;
            p.element[j] -= rate * (nesterov ? d + ahead * smooth.element[j] : smooth.element[j]);
        }
        store(params.at[i], first, n, p);
        store(buffers.at[i], first, n, smooth);
    });
}

extern "C" __global__ void adam(const double* lr, Arrays<real> params, Arrays<const real> grads, Arrays<real> m, Arrays<real> v,
                                Arrays<const long long> steps, const Table sizes, const Table starts, double beta1,
                                double beta2, double eps, double weight_decay, bool decoupled) {
    __shared__ real rate, spread;  // lr / (1 - beta1^step), 1 / √(1 - beta2^step): powers in double, which one thread takes
    const real keep1 = real(beta1), fresh1 = real(1 - beta1), keep2 = real(beta2), fresh2 = real(1 - beta2);
    const real decay = real(decoupled ? 0 : weight_decay), shrink = real(decoupled ? 1 - *lr * weight_decay : 1);
    const real floor = real(eps);
    if (threadIdx.x == 0) {
        const int i = member(starts);
        rate = real(*lr / (1 - pow(beta1, double(*steps.at[i]))));
        spread = real(1 / sqrt(1 - pow(beta2, double(*steps.at[i]))));
    }
    __syncthreads();
    each_pack(sizes, starts, [&](int i, i64 n, i64 first) {
        Reals p, g, mean, square;
        load(params.at[i], first, n, p);
        load(grads.at[i], first, n, g);
        load(m.at[i], first, n, mean);
        load(v.at[i], first, n, square);
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) {
            const real d = g.element[j] + decay * p.element[j];
            mean.element[j] = keep1 * mean.element[j] + fresh1 * d;
            square.element[j] = keep2 * square.element[j] + fresh2 * d * d;
            p.element[j] = shrink * p.element[j] - rate * mean.element[j] / (sqrt(square.element[j]) * spread + floor);
        }
        store(params.at[i], first, n, p);
        store(m.at[i], first, n, mean);
        store(v.at[i], first, n, square);
    });
}
