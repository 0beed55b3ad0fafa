// Matrix product of integers, modulo 2^64: a thread an element. Steps and batch as in matmul.cu.

#include "matmul.cuh"

extern "C" __global__ void product(const long long* a, const long long* b, long long* y, int I, int J, int K, int a_i, int a_k,
                                   int b_j, int b_k, int matrices, int axes, Table batch) {
    for (i64 e = first(); e < i64(matrices) * I * J; e += stride()) {
        const int matrix = int(e / (i64(I) * J)), i = int(e / J % I), j = int(e % J);
        const Begin at = begin(matrix, axes, batch);
        u64 sum = 0;
        for (int k = 0; k < K; ++k) sum += u64(a[at.a + i * a_i + k * a_k]) * u64(b[at.b + j * b_j + k * b_k]);
        y[e] = i64(sum);
    }
}
