// Where the matrices of a batch begin: shared by matmul.cu and matmul_integers.cu.

#include "common.cuh"

// The batch has `axes` axes. Axis n has batch.at[3 n] matrices, which lie batch.at[3 n + 1] elements apart in a and
// batch.at[3 n + 2] in b: 0 where an operand is the same for all.
struct Begin {
    i64 a, b;
};
__device__ Begin begin(int matrix, int axes, const Table& batch) {
    Begin begin{0, 0};
    for (int n = axes - 1; n >= 0; --n) {
        const int size = int(batch.at[3 * n]), index = matrix % size;
        matrix /= size;
        begin.a += index * batch.at[3 * n + 1];
        begin.b += index * batch.at[3 * n + 2];
    }
    return begin;
}
