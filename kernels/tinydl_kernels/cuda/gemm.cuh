// Matrix products in tiles:
//
//     y[i, j] = Σ_k a[i, k] b[k, j]        0 <= i < I, 0 <= j < J, k0 <= k < k1
//
// A block of threads makes one tile of y. It walks along k in steps of DEPTH: while it multiplies what lies in one half of
// shared memory, copies from global memory fill the other half.
//
//                     b: DEPTH x COLUMNS                 global    a and b, each element read once per tile
//                     +--------------------+             shared    two steps of both: a[k][i], b[k][j]
//                     |  one step          |             registers of a thread: some of a column of a, some of a row of b,
//                     +--------------------+                       and their outer product, summed up: its part of y
//      a: DEPTH       +--------------------+
//      x ROWS  +--+   |  y: ROWS x COLUMNS |             A warp owns a rectangle of the tile. How its lanes share that is the
//              |  |   |  +--------+        |             core's matter: `Simt` multiplies numbers, `TensorCore` 16 x 8
//              |  |   |  |  warp  |        |             matrices.
//              |  |   |  +--------+        |
//              +--+   +--------------------+
//
// What differs between a product of matrices, a convolution and its gradients is where the operands lie. An operand says where
// by two parts: `outer` of i (or j) and `inner` of k; `at` puts them together. The parts of a tile's rows and columns, and
// those of the next step's k, are worked out once for the block and kept in shared memory.

#include "ptx.cuh"

// ---- Operands

// Stays negative whatever is added, and keeps what it is added to aligned: so must be the address of a copy of no bytes.
constexpr int OUTSIDE = -(1 << 30);

struct Spot {  // in an operand
    int offset;
    bool there;  // else it counts as zero
};

// An array in which the offsets of both parts add up.
template <class T> struct Operand {
    using Part = int;
    const T* data;
    __device__ static Part outside() { return OUTSIDE; }
    __device__ Spot at(Part outer, Part inner) const { return {outer + inner, (outer | inner) >= 0}; }
    __device__ bool wide() const { return false; }
};

// Element (x, k) of a matrix. One of the steps is 1.
template <class T> struct Matrix : Operand<T> {
    static constexpr int WIDTH = 16 / sizeof(T);
    int outer_step, inner_step, outers;
    bool along_inner;
    __device__ Matrix(const T* data, int outer_step, int inner_step, int outers)
        : Operand<T>{data}, outer_step(outer_step), inner_step(inner_step), outers(outers), along_inner(inner_step == 1) {}
    __device__ int outer(int x) const { return x * outer_step; }
    __device__ int inner(int k) const { return k * inner_step; }
    // Can 16 bytes along x move at once?
    __device__ bool wide() const {
        return outer_step == 1 && inner_step % WIDTH == 0 && outers % WIDTH == 0 &&
               reinterpret_cast<u64>(this->data) % 16 == 0;
    }
};

// ---- Copies from global to shared memory

// The threads of a block bring X x DEPTH elements of an operand to tile[k][x]. From sm_80 on the copies are asynchronous,
// before that a thread keeps what it has fetched in registers until the block has multiplied.
template <class T, int X, int DEPTH, int PITCH, int THREADS> struct Carrier {
    static constexpr int WIDTH = 16 / sizeof(T), COUNT = X * DEPTH / THREADS;
#if !defined(ASYNC_COPY)
    T held[COUNT];
#endif

    template <class Operand>
    __device__ void fetch(T (*tile)[PITCH], const Operand& operand, const typename Operand::Part* outer,
                          const typename Operand::Part* inner) {
        if (operand.wide())
            fetch_pieces<Rows<WIDTH>>(tile, operand, outer, inner);
        else if (operand.along_inner)
            fetch_pieces<Patches>(tile, operand, outer, inner);
        else
            fetch_pieces<Rows<1>>(tile, operand, outer, inner);
    }

    template <class Operand> __device__ void land(T (*tile)[PITCH], const Operand& operand) const {
#if !defined(ASYNC_COPY)
        if (operand.wide())
            land_pieces<Rows<WIDTH>>(tile);
        else if (operand.along_inner)
            land_pieces<Patches>(tile);
        else
            land_pieces<Rows<1>>(tile);
#endif
    }

private:
    // Which pieces a thread has: piece n is WIDTH elements from (x + across(n), k + along(n)), where only x and k depend on the
    // thread, so that the rest is part of the instructions.

    // Neighbouring lanes lie along x.
    template <int WIDTH_> struct Rows {
        static constexpr int WIDTH = WIDTH_, ROW = X / WIDTH;  // pieces
        static constexpr int ROWS = THREADS > ROW ? THREADS / ROW : 1, PARTS = ROW > THREADS ? ROW / THREADS : 1;
        static_assert(ROWS * ROW == THREADS * PARTS && DEPTH % ROWS == 0);
        __device__ static int x() { return int(threadIdx.x) % ROW * WIDTH; }
        __device__ static int k() { return int(threadIdx.x) / ROW; }
        __device__ static constexpr int across(int n) { return n % PARTS * THREADS * WIDTH; }
        __device__ static constexpr int along(int n) { return n / PARTS * ROWS; }
    };

    // A warp takes 4 along k and 8 along x, which keeps both sides happy: 16 bytes in a row of global memory, and all banks of
    // shared memory.
    struct Patches {
        static constexpr int WIDTH = 1, WARPS = THREADS / 32, DEEP = DEPTH / 4;  // patches along k
        static constexpr int BROAD = WARPS > DEEP ? WARPS / DEEP : 1, PARTS = DEEP > WARPS ? DEEP / WARPS : 1;
        static_assert(BROAD * DEEP == WARPS * PARTS && X % (8 * BROAD) == 0);
        __device__ static int x() { return int(threadIdx.x) / 32 / DEEP * 8 + int(threadIdx.x) % 32 / 4; }
        __device__ static int k() { return int(threadIdx.x) / 32 % DEEP * 4 + int(threadIdx.x) % 4; }
        __device__ static constexpr int across(int n) { return n / PARTS * BROAD * 8; }
        __device__ static constexpr int along(int n) { return n % PARTS * WARPS * 4; }
    };

    template <class Pieces, class Operand>
    __device__ void fetch_pieces(T (*tile)[PITCH], const Operand& operand, const typename Operand::Part* outer,
                                 const typename Operand::Part* inner) {
        constexpr int W = Pieces::WIDTH, PIECES = COUNT / W, GROUP = PIECES < 4 ? PIECES : 4;
        const int x = Pieces::x(), k = Pieces::k();
        outer += x, inner += k;
        T* const to = &tile[k][x];
        const T* const data = settled(operand.data);
#pragma unroll
        for (int n = 0; n < PIECES; n += GROUP) {
            Spot spot[GROUP];
#pragma unroll
            for (int i = 0; i < GROUP; ++i) spot[i] = operand.at(outer[Pieces::across(n + i)], inner[Pieces::along(n + i)]);
#pragma unroll
            for (int i = 0; i < GROUP; ++i) {
                const T* source = data + spot[i].offset;
#if defined(ASYNC_COPY)
                cp_async<W * sizeof(T)>(to + Pieces::along(n + i) * PITCH + Pieces::across(n + i), source, spot[i].there);
#else
                Pack<T, W> pack = {};
                if (spot[i].there) pack = *reinterpret_cast<const Pack<T, W>*>(source);
#pragma unroll
                for (int w = 0; w < W; ++w) held[(n + i) * W + w] = pack.element[w];
#endif
            }
        }
    }

#if !defined(ASYNC_COPY)
    template <class Pieces> __device__ void land_pieces(T (*tile)[PITCH]) const {
        constexpr int W = Pieces::WIDTH;
        T* const to = &tile[Pieces::k()][Pieces::x()];
#pragma unroll
        for (int n = 0; n < COUNT / W; ++n)
#pragma unroll
            for (int w = 0; w < W; ++w) to[Pieces::along(n) * PITCH + Pieces::across(n) + w] = held[n * W + w];
    }
#endif
};

// ---- Cores: what a warp does with a step

template <class T> __device__ void add_product(T& sum, T a, T b) { sum += a * b; }
__device__ void add_product(i64& sum, i64 a, i64 b) { sum = i64(u64(sum) + u64(a) * u64(b)); }  // modulo 2^64, as NumPy

template <class T_, int ROWS_, int COLUMNS_, int WARP_ROWS, int WARP_COLUMNS> struct Shape {
    using T = T_;
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, DEPTH = 64 / sizeof(T);
    static constexpr int WARPS_ACROSS = COLUMNS / WARP_COLUMNS, THREADS = 32 * WARPS_ACROSS * (ROWS / WARP_ROWS);
    // Blocks that a multiprocessor must have room for. Blackwell's consumer chips need more than 128 registers for the same.
#if defined(ASYNC_COPY) && !(__CUDA_ARCH__ >= 1200)
    static constexpr int RESIDENT = THREADS == 256 && sizeof(T) == 4 ? 2 : 1;
#else
    static constexpr int RESIDENT = 1;
#endif
    // Rows of shared memory are 8 elements longer than the tile: so a warp that reads 8 elements of 4 rows meets all 32 banks.
    static constexpr int A_PITCH = ROWS + 8, B_PITCH = COLUMNS + 8;
    // Corner of this thread's warp
    __device__ static int warp_row() { return int(threadIdx.x) / 32 / WARPS_ACROSS * WARP_ROWS; }
    __device__ static int warp_column() { return int(threadIdx.x) / 32 % WARPS_ACROSS * WARP_COLUMNS; }
};

// The lanes stand 4 x 8. Each takes packs of 16 bytes of a and of b, and has the products of all these in registers.
template <class T, int ROWS, int COLUMNS, int WARP_ROWS, int WARP_COLUMNS>
struct Simt : Shape<T, ROWS, COLUMNS, WARP_ROWS, WARP_COLUMNS> {
    using Base = Shape<T, ROWS, COLUMNS, WARP_ROWS, WARP_COLUMNS>;
    static constexpr int WIDTH = 16 / sizeof(T), A_PACKS = WARP_ROWS / (4 * WIDTH), B_PACKS = WARP_COLUMNS / (8 * WIDTH);
    using Piece = Pack<T, WIDTH>;
    T sum[A_PACKS * WIDTH][B_PACKS * WIDTH] = {};

    __device__ static int row(int pack) { return Base::warp_row() + (4 * pack + threadIdx.x % 32 / 8) * WIDTH; }
    __device__ static int column(int pack) { return Base::warp_column() + (8 * pack + threadIdx.x % 8) * WIDTH; }

    __device__ void step(const T (*a)[Base::A_PITCH], const T (*b)[Base::B_PITCH]) {
#pragma unroll 8
        for (int k = 0; k < Base::DEPTH; ++k) {
            Pack<T, WIDTH> some_a[A_PACKS], some_b[B_PACKS];
#pragma unroll
            for (int p = 0; p < A_PACKS; ++p) some_a[p] = *reinterpret_cast<const Pack<T, WIDTH>*>(&a[k][row(p)]);
#pragma unroll
            for (int p = 0; p < B_PACKS; ++p) some_b[p] = *reinterpret_cast<const Pack<T, WIDTH>*>(&b[k][column(p)]);
#pragma unroll
            for (int i = 0; i < A_PACKS * WIDTH; ++i)
#pragma unroll
                for (int j = 0; j < B_PACKS * WIDTH; ++j)
                    add_product(sum[i][j], some_a[i / WIDTH].element[i % WIDTH], some_b[j / WIDTH].element[j % WIDTH]);
        }
    }

    // f(row, column, piece) for each piece of this thread's part of the tile.
    template <class F> __device__ void each(F f) const {
#pragma unroll
        for (int i = 0; i < A_PACKS * WIDTH; ++i)
#pragma unroll
            for (int p = 0; p < B_PACKS; ++p) {
                Piece piece;
#pragma unroll
                for (int w = 0; w < WIDTH; ++w) piece.element[w] = sum[i][p * WIDTH + w];
                f(row(i / WIDTH) + i % WIDTH, column(p), piece);
            }
    }
};

#if defined(ASYNC_COPY)
// Matrices of 16 x 8 times 8 x 8 (ptx.cuh draws them), of numbers rounded to TF32, summed up in float.
template <int ROWS, int COLUMNS, int WARP_ROWS, int WARP_COLUMNS>
struct TensorCore : Shape<float, ROWS, COLUMNS, WARP_ROWS, WARP_COLUMNS> {
    using Base = Shape<float, ROWS, COLUMNS, WARP_ROWS, WARP_COLUMNS>;
    static constexpr int A_COUNT = WARP_ROWS / 16, B_COUNT = WARP_COLUMNS / 8;
    using Piece = Pack<float, 2>;
    float sum[A_COUNT][B_COUNT][4] = {};

    __device__ void step(const float (*a)[Base::A_PITCH], const float (*b)[Base::B_PITCH]) {
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int k = 0; k < Base::DEPTH; k += 8) {
            u32 some_a[A_COUNT][4], some_b[B_COUNT][2];
#pragma unroll
            for (int i = 0; i < A_COUNT; ++i)
#pragma unroll
                for (int q = 0; q < 4; ++q)
                    some_a[i][q] = to_tf32(a[k + t + q / 2 * 4][Base::warp_row() + 16 * i + g + q % 2 * 8]);
#pragma unroll
            for (int j = 0; j < B_COUNT; ++j)
#pragma unroll
                for (int q = 0; q < 2; ++q) some_b[j][q] = to_tf32(b[k + t + q * 4][Base::warp_column() + 8 * j + g]);
#pragma unroll
            for (int i = 0; i < A_COUNT; ++i)
#pragma unroll
                for (int j = 0; j < B_COUNT; ++j) mma_m16n8k8(sum[i][j], some_a[i], some_b[j]);
        }
    }

    template <class F> __device__ void each(F f) const {
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < A_COUNT; ++i)
#pragma unroll
            for (int j = 0; j < B_COUNT; ++j)
#pragma unroll
                for (int half = 0; half < 2; ++half)
                    f(Base::warp_row() + 16 * i + g + 8 * half, Base::warp_column() + 8 * j + 2 * t,
                      Piece{{sum[i][j][2 * half], sum[i][j][2 * half + 1]}});
    }
};
#endif

// ---- The product

// Where a block works: its tile, and the number of whatever has tiles. Blocks that read the same columns of b are neighbours.
struct Tile {
    int i0, j0, rest;
    __device__ Tile(int block, int rows, int columns, int I, int J) {
        const int i_tiles = (I + rows - 1) / rows, j_tiles = (J + columns - 1) / columns;
        i0 = block % i_tiles * rows;
        j0 = block / i_tiles % j_tiles * columns;
        rest = block / i_tiles / j_tiles;
    }
};

// y.row(i) and y.column(j) are offsets into y.data; y.bias(i) is added. i0 and j0 are multiples of the tile.
template <class Core, class A, class B, class Y>
__device__ void gemm(const A& a, const B& b, const Y& y, int i0, int j0, int I, int J, int k0, int k1) {
    using T = typename Core::T;
    constexpr int ROWS = Core::ROWS, COLUMNS = Core::COLUMNS, DEPTH = Core::DEPTH, THREADS = Core::THREADS;
    __shared__ __align__(16) T a_tile[2][DEPTH][Core::A_PITCH];
    __shared__ __align__(16) T b_tile[2][DEPTH][Core::B_PITCH];
    __shared__ typename A::Part a_outer[ROWS], a_inner[2][DEPTH];
    __shared__ typename B::Part b_outer[COLUMNS], b_inner[2][DEPTH];
    __shared__ int y_column[COLUMNS];

    const int steps = k1 > k0 ? (k1 - k0 + DEPTH - 1) / DEPTH : 0;
    const auto locate = [&](int step) {  // the k of a step
        const int n = threadIdx.x, k = k0 + step * DEPTH + n % DEPTH;
        if (n < DEPTH)
            a_inner[step % 2][n] = k < k1 ? a.inner(k) : A::outside();
        else if (n < 2 * DEPTH)
            b_inner[step % 2][n - DEPTH] = k < k1 ? b.inner(k) : B::outside();
    };
    static_assert(2 * DEPTH <= THREADS);
    for (int n = threadIdx.x; n < ROWS; n += THREADS) a_outer[n] = i0 + n < I ? a.outer(i0 + n) : A::outside();
    for (int n = threadIdx.x; n < COLUMNS; n += THREADS) {
        b_outer[n] = j0 + n < J ? b.outer(j0 + n) : B::outside();
        y_column[n] = j0 + n < J ? y.column(j0 + n) : OUTSIDE;
    }
    locate(0);

    Core core;
    Carrier<T, ROWS, DEPTH, Core::A_PITCH, THREADS> a_carrier;
    Carrier<T, COLUMNS, DEPTH, Core::B_PITCH, THREADS> b_carrier;
    for (int step = -1; step < steps; ++step) {
        const int now = step & 1, next = now ^ 1;
        const bool more = step + 1 < steps;
#if defined(ASYNC_COPY)
        cp_async_wait_all();
#endif
        __syncthreads();  // `now` is there, and nobody reads `next` any more
        if (more) {
            a_carrier.fetch(a_tile[next], a, a_outer, a_inner[next]);
            b_carrier.fetch(b_tile[next], b, b_outer, b_inner[next]);
            locate(step + 2);
        }
        if (step >= 0) core.step(a_tile[now], b_tile[now]);
        if (more) {
            a_carrier.land(a_tile[next], a);
            b_carrier.land(b_tile[next], b);
        }
    }

    core.each([&](int i, int j, typename Core::Piece piece) {
        if (i0 + i >= I) return;
        constexpr int N = sizeof(piece) / sizeof(T);
        const T bias = y.bias(i0 + i);
#pragma unroll
        for (int n = 0; n < N; ++n) piece.element[n] += bias;
        T* const row = y.data + y.row(i0 + i);
        const int first = y_column[j];
        if (first >= 0 && y_column[j + N - 1] == first + N - 1 && reinterpret_cast<u64>(row + first) % sizeof piece == 0) {
            *reinterpret_cast<typename Core::Piece*>(row + first) = piece;
            return;
        }
#pragma unroll
        for (int n = 0; n < N; ++n)
            if (y_column[j + n] >= 0) row[y_column[j + n]] = piece.element[n];
    });
}

// ---- The sum of splits: a product long in k and small in y is cut along k, so that there is work for all multiprocessors.

// y[e] = bias[e / plane % channels] + Σ_split partial[split, e], in the order of the splits. bias may be null.
template <class T>
__device__ void sum_splits(const T* partial, const T* bias, T* y, i64 n, int splits, int plane, int channels) {
    for (i64 e = first(); e < n; e += stride()) {
        T sum = bias ? bias[u32(e) / plane % channels] : T(0);
        for (int split = 0; split < splits; ++split) add_product(sum, partial[split * n + e], T(1));
        y[e] = sum;
    }
}
