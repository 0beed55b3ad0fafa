// What the .cu files share: short names, grid-stride loops, vector loads and stores, reductions in a fixed order.

using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

__device__ float infinity() { return __int_as_float(0x7f800000); }
__device__ float not_a_number() { return __int_as_float(0x7fc00000); }

// N neighbouring elements that move in one instruction.
template <class T, int N> struct alignas(N * sizeof(T)) Pack {
    T element[N];
};

template <class P, class T> __device__ bool whole(const T* array, i64 first, i64 n) {
    constexpr int N = sizeof(P) / sizeof(T);
    return first + N <= n && reinterpret_cast<u64>(array) % alignof(P) == 0;  // `first` is a multiple of N
}

template <class T, int N> __device__ void load(const T* array, i64 first, i64 n, Pack<T, N>& pack) {
    if (whole<Pack<T, N>>(array, first, n)) {
        pack = *reinterpret_cast<const Pack<T, N>*>(array + first);
        return;
    }
#pragma unroll
    for (int j = 0; j < N; ++j) pack.element[j] = first + j < n ? array[first + j] : T(0);
}

template <class T, int N> __device__ void store(T* array, i64 first, i64 n, const Pack<T, N>& pack) {
    if (whole<Pack<T, N>>(array, first, n)) {
        *reinterpret_cast<Pack<T, N>*>(array + first) = pack;
        return;
    }
#pragma unroll
    for (int j = 0; j < N; ++j)
        if (first + j < n) array[first + j] = pack.element[j];
}

// What travels with a launch: numbers, and arrays of one type.
struct Table {
    i64 at[GROUP];
};
struct Counts {
    int at[64];
};
template <class T> struct Arrays {
    T* at[GROUP];
};

// for (i64 i = first(); i < n; i += stride()): the threads of the grid share n items.
__device__ i64 first() { return i64(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ i64 stride() { return i64(gridDim.x) * blockDim.x; }

struct Sum {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct Largest {  // NaN wins, as in NumPy
    template <class T> __device__ T operator()(T a, T b) const { return a != a || a > b ? a : b; }
};

// for (i64 i = first() / lanes; i < whole_warps(n, lanes); i += stride() / lanes): `lanes` neighbouring threads, 1 to 32 and a
// power of two, have an item together. Whole warps go round, so that lanes can exchange values: i may be n or more at the end.
__device__ i64 whole_warps(i64 n, int lanes) {
    const int items = 32 / lanes;
    return (n + items - 1) / items * items;
}

// A sum. That of floats carries along the rounding errors of its additions (Knuth's two-sum) and so is nearly as exact as one
// of doubles, which most GPUs are slow at. Infinities and NaN come out as in a plain sum.
template <class T> struct Total {
    T sum = 0;
    __device__ void add(T x) { sum += x; }
    __device__ void add_product(T x, T y) { sum += x * y; }
    __device__ double value() const { return sum; }
};
template <> struct Total<float> {
    float sum = 0, lost = 0;
    __device__ void add(float x) {
        const float before = sum;
        sum = __fadd_rn(before, x);
        const float added = __fsub_rn(sum, before);
        lost += __fadd_rn(__fsub_rn(before, __fsub_rn(sum, added)), __fsub_rn(x, added));
    }
    __device__ void add_product(float x, float y) {
        const float product = __fmul_rn(x, y);
        add(product);
        lost += fmaf(x, y, -product);
    }
    __device__ double value() const { return fabsf(lost) < 1e38f ? double(sum) + lost : double(sum); }
};

// A value and where it stands.
template <class T> struct Indexed {
    T value;
    i64 at;
};

// The value of the lane whose number differs in one bit.
template <class T> __device__ T exchange(T value, int bit) { return __shfl_xor_sync(~0u, value, bit); }
template <class T> __device__ Indexed<T> exchange(Indexed<T> winner, int bit) {
    return {__shfl_xor_sync(~0u, winner.value, bit), __shfl_xor_sync(~0u, winner.at, bit)};
}

// Combines the values of `lanes` neighbouring threads, 1 to 32 and a power of two, in the order of a tree. All get the result.
template <class T, class Combine> __device__ T lanes_reduce(T value, int lanes, Combine combine) {
    for (int bit = lanes / 2; bit > 0; bit /= 2) value = combine(value, exchange(value, bit));
    return value;
}

template <class T, class Combine> __device__ T warp_reduce(T value, Combine combine) {
    return lanes_reduce(value, 32, combine);
}

// The same over the threads of a block, whose size is a multiple of 32. `scratch` holds 33 values in shared memory, and may be
// written again behind a barrier.
template <class T, class Combine> __device__ T block_reduce(T value, T identity, T* scratch, Combine combine) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    value = warp_reduce(value, combine);
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    if (warp == 0) {
        value = warp_reduce(lane < warps ? scratch[lane] : identity, combine);
        if (lane == 0) scratch[32] = value;
    }
    __syncthreads();
    return scratch[32];
}

// The threads that share an item, of which the grid has as many as it is told (`launch_teams`): `lanes` neighbours, 1 to 32
// and a power of two, in one warp or in each of the 8 warps of the block. Every thread of the block must call `reduce`, those
// too whose item is beyond the last.
//
//     1 lane, 1 warp     threads side by side have items side by side        32 lanes, 1 warp      a warp has an item
//     1 lane, 8 warps    so have the lanes of a warp, 8 warps share them     32 lanes, 8 warps     a block has an item
struct Team {
    int lanes;
    bool one_warp;
    __device__ int warp() const { return threadIdx.x / 32; }
    __device__ int lane() const { return threadIdx.x % 32; }
    __device__ i64 item() const {
        return one_warp ? first() / lanes : i64(blockIdx.x) * (32 / lanes) + lane() / lanes;
    }
    __device__ int members() const { return one_warp ? lanes : 8 * lanes; }
    __device__ int rank() const { return lane() % lanes + (one_warp ? 0 : warp() * lanes); }
    template <class T, class Combine> __device__ T reduce(T value, Combine combine) const {
        value = lanes_reduce(value, lanes, combine);
        if (one_warp) return value;
        __shared__ T scratch[8][32];
        scratch[warp()][lane()] = value;
        __syncthreads();
        value = scratch[0][lane()];
        for (int other = 1; other < 8; ++other) value = combine(value, scratch[other][lane()]);
        __syncthreads();
        return value;
    }
};

// A line along one axis of an array (outer, size, inner): its first element, and the steps from one to the next. The members of
// a team take turns at it:  for (i64 k = team.rank(); k < line.size; k += team.members()) ... line.at(k)
struct Line {
    i64 base, step, size;
    __device__ i64 at(i64 k) const { return base + k * step; }
};
// The line of an item; of one beyond the last it is empty.
__device__ Line line_of(i64 item, i64 items, i64 size, i64 inner) {
    return {item / inner * size * inner + item % inner, inner, item < items ? size : 0};
}
