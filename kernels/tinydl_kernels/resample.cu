// Weighted sums along an axis: the twin of resample.py. One thread per element of y (outer, m, inner), neighbours side by side.

#include "common.cuh"

extern "C" __global__ void resample(const real* x, const long long* starts, const long long* columns, const real* weights,
                                    real* y, long long items, long long m, long long n, long long inner) {
    for (i64 item = first(); item < items; item += stride()) {
        const i64 i = item / inner % m;
        const real* line = x + item / inner / m * n * inner + item % inner;
        Total<real> total;
        for (i64 t = starts[i]; t < starts[i + 1]; ++t) total.add_product(weights[t], line[columns[t] * inner]);
        y[item] = real(total.value());
    }
}
