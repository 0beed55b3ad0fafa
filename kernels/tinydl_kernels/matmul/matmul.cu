// Matrix product, batched: gemm.cuh with operands and a result that lie anyhow in memory.
//
// Element (i, k) of a lies at i * a_i + k * a_k, with a_i = 1 or a_k = 1, and so on: a transposed operand is one whose steps
// are exchanged, and so is a transposed product, (A B)ᵀ = Bᵀ Aᵀ.

#include "gemm.cuh"

#if defined(TENSOR_CORES) && __CUDA_ARCH__ >= 800
template <int... SIZES> using Core = TensorCore<SIZES...>;
#else
template <int... SIZES> using Core = Simt<number, SIZES...>;
#endif

// ---- Where things lie

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

struct Result {
    number* data;
    int i_step, j_step;
    __device__ int row(int i) const { return i * i_step; }
    __device__ int column(int j) const { return j * j_step; }
    __device__ number bias(int) const { return 0; }
};

struct Steps {
    int a_i, a_k, b_j, b_k, y_i, y_j;
};

// ---- Kernels

// One split of k, `depth` long, of one matrix of the batch. y has room for all splits.
template <class Core>
__device__ void product(const number* a, const number* b, number* y, int I, int J, int K, const Steps& steps, int matrices,
                        int axes, const Table& batch, int depth) {
    const Tile tile(blockIdx.x, Core::ROWS, Core::COLUMNS, I, J);
    const int matrix = tile.rest % matrices, split = tile.rest / matrices;
    const Begin at = begin(matrix, axes, batch);
    const Matrix<number> a_matrix(a + at.a, steps.a_i, steps.a_k, I), b_matrix(b + at.b, steps.b_j, steps.b_k, J);
    const Result result{y + (i64(split) * matrices + matrix) * I * J, steps.y_i, steps.y_j};
    gemm<Core>(a_matrix, b_matrix, result, tile.i0, tile.j0, I, J, split * depth, min(K, (split + 1) * depth));
}

#define PRODUCT(SIZE, ...) \
    using Core##SIZE = Core<__VA_ARGS__>; \
    extern "C" __global__ void __launch_bounds__(Core##SIZE::THREADS, Core##SIZE::RESIDENT) \
    product_##SIZE(const number* a, const number* b, number* y, int I, int J, int K, int a_i, int a_k, int b_j, int b_k, \
                   int y_i, int y_j, int matrices, int axes, Table batch, int depth) { \
        product<Core##SIZE>(a, b, y, I, J, K, {a_i, a_k, b_j, b_k, y_i, y_j}, matrices, axes, batch, depth); \
    }
PRODUCT(128x128, 128, 128, 32, 64)
PRODUCT(64x64, 64, 64, 32, 64)
PRODUCT(32x128, 32, 128, 32, 64)
PRODUCT(16x128, 16, 128, 16, 64)
PRODUCT(32x32, 32, 32, 16, 32)

extern "C" __global__ void add_splits(const number* partial, const number* b, number* y, long long n, int splits, int plane,
                                      int channels) {
    sum_splits(partial, b, y, n, splits, plane, channels);
}
