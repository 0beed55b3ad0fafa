// A stable radix sort without atomics: the least significant digit of 8 bits first (Knuth, TAOCP 3, 5.2.5). Keys stay where
// they are; what is sorted is `order`, the numbers of the items. A pass by one digit cuts the items into tiles:
//
//     count      counts[d][t]    how many items of tile t have digit d
//     offset     counts[d][t] -> how many items with digit d the tiles before t have; totals[d] is how many there are in all
//     move       an item of tile t goes behind all smaller digits, the same digit in earlier tiles, and earlier in its tile
//
// Items come in rows of `size`, sorted one by one: after the digits of the keys (shift < 64) come those of the row's number.

#include "common.cuh"

constexpr int WARPS = 8, ROUNDS = TILE / (32 * WARPS);
static_assert(TILE == 32 * WARPS * ROUNDS && DIGITS == 256);

// Digits and ranks of the items of a tile. Round r of a warp is 32 neighbours; the rounds of a warp, and then the warps, follow
// one another.
struct Tile {
    int (&counts)[WARPS][DIGITS];  // shared
    u32 digit[ROUNDS];
    int rank[ROUNDS];  // how many before the item, in its warp, have its digit

    __device__ i64 item(int round) const {
        return i64(blockIdx.x) * TILE + threadIdx.x / 32 * (32 * ROUNDS) + 32 * round + threadIdx.x % 32;
    }

    // Ranks all items; counts[warp][d] is then how many of a warp's items have digit d.
    __device__ void read(const u64* keys, const i64* order, i64 n, int shift, i64 size) {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        for (int d = lane; d < DIGITS; d += 32) counts[warp][d] = 0;
        __syncwarp();
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            const bool inside = item(round) < n;
            const i64 i = !inside ? 0 : order ? order[item(round)] : item(round);
            const u32 d = u32(shift < 64 ? keys[i] >> shift : u64(i / size) >> (shift - 64)) % DIGITS;
            u32 peers = __ballot_sync(~0u, inside);  // the lanes with this digit
#pragma unroll
            for (int bit = 0; bit < 8; ++bit) {
                const u32 ones = __ballot_sync(~0u, d >> bit & 1);
                peers &= d >> bit & 1 ? ones : ~ones;
            }
            const int before = __popc(peers & ((1u << lane) - 1));
            digit[round] = d;
            rank[round] = counts[warp][d] + before;
            __syncwarp();
            if (inside && before == 0) counts[warp][d] += __popc(peers);
            __syncwarp();
        }
        __syncthreads();
    }

    // counts[warp][d] becomes how many of the earlier warps' items have digit d. Returns the tile's total for d = threadIdx.x.
    __device__ u32 add_up() {
        int total = 0;
#pragma unroll
        for (int warp = 0; warp < WARPS; ++warp) {
            const int count = counts[warp][threadIdx.x];
            counts[warp][threadIdx.x] = total;
            total += count;
        }
        return total;
    }
};

// The sum of the values of a warp's lanes up to this one.
__device__ u32 sum_upto(u32 value) {
#pragma unroll
    for (int by = 1; by < 32; by *= 2) {
        const u32 before = __shfl_up_sync(~0u, value, by);
        if (threadIdx.x % 32 >= by) value += before;
    }
    return value;
}

extern "C" __global__ void count(const unsigned long long* keys, const long long* order, unsigned int* counts, long long n,
                                 int shift, long long size) {
    __shared__ int shared[WARPS][DIGITS];
    Tile tile{shared};
    tile.read(keys, order, n, shift, size);
    counts[i64(threadIdx.x) * gridDim.x + blockIdx.x] = tile.add_up();
}

// One warp a digit.
extern "C" __global__ void offset(unsigned int* counts, unsigned int* totals, int tiles) {
    const int d = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    u32* row = counts + i64(d) * tiles;
    u32 sum = 0;
    for (int tile = lane; tile - lane < tiles; tile += 32) {
        const u32 value = tile < tiles ? row[tile] : 0, upto = sum_upto(value);
        if (tile < tiles) row[tile] = sum + upto - value;
        sum += __shfl_sync(~0u, upto, 31);
    }
    if (lane == 0) totals[d] = sum;
}

extern "C" __global__ void move(const unsigned long long* keys, const long long* order, const unsigned int* counts,
                                const unsigned int* totals, long long* moved, long long n, int shift, long long size) {
    __shared__ int shared[WARPS][DIGITS];
    __shared__ u32 starts[DIGITS], sums[WARPS];
    const int warp = threadIdx.x / 32;
    const u32 total = totals[threadIdx.x], upto = sum_upto(total);
    if (threadIdx.x % 32 == 31) sums[warp] = upto;
    Tile tile{shared};
    tile.read(keys, order, n, shift, size);  // ends at a barrier
    tile.add_up();
    u32 start = upto - total + counts[i64(threadIdx.x) * gridDim.x + blockIdx.x];
    for (int w = 0; w < warp; ++w) start += sums[w];
    starts[threadIdx.x] = start;
    __syncthreads();
#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        const i64 i = tile.item(round);
        const u32 digit = tile.digit[round];
        if (i < n) moved[starts[digit] + shared[warp][digit] + tile.rank[round]] = order ? order[i] : i;
    }
}

// ---- Sorting numbers: x (outer, size, inner), a row for each (outer, inner)

// Unsigned keys in the order of numbers: zeros are equal, NaN is the largest. They are made of bits: no subnormal gets lost.
template <class T> __device__ T ordered(T bits, T infinity) {
    const T sign = T(1) << (8 * sizeof(T) - 1), magnitude = bits & ~sign;
    if (magnitude > infinity) return ~T(0);
    return magnitude == 0 ? sign : bits & sign ? ~bits : bits | sign;
}
__device__ u64 key(float x) { return ordered(__float_as_uint(x), 0x7F800000u); }
__device__ u64 key(double x) { return ordered(u64(__double_as_longlong(x)), u64(0x7FF0000000000000)); }
__device__ u64 key(i64 x) { return u64(x) ^ u64(1) << 63; }
__device__ u64 key(u64 x) { return x; }

// keys[row][k] = key of x[k]; `flip` is all ones for descending order.
#define KEYS(name, type)                                                                                         \
    extern "C" __global__ void keys_##name(const type* x, unsigned long long* keys, long long n, long long size, \
                                           long long inner, unsigned long long flip) {                           \
        for (i64 i = first(); i < n; i += stride()) {                                                            \
            const i64 column = i % inner, k = i / inner % size, outer = i / inner / size;                        \
            keys[(outer * inner + column) * size + k] = key(x[i]) ^ flip;                                        \
        }                                                                                                        \
    }
KEYS(float32, float)
KEYS(float64, double)
KEYS(int64, long long)
KEYS(uint64, unsigned long long)

// out[outer, rank, inner] = the place within its row of the item that came out at this rank.
extern "C" __global__ void places(const long long* order, long long* out, long long n, long long size, long long inner) {
    for (i64 i = first(); i < n; i += stride()) {
        const i64 row = i / size, rank = i % size;
        out[(row / inner * size + rank) * inner + row % inner] = order[i] - row * size;
    }
}
