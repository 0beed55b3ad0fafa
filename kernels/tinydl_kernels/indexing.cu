// Elements taken from and put to places that an index names: the twins of indexing.py. All kernels share one picture. x has
// `rows` places and g `count` sources in each of r = 0, 1, ... blocks, all of `width` neighbours, and the index says where a
// source belongs, the same in every block:
//
//     gather         out[r, j] = x[r, place(j)]
//     scatter_add    out[r, s] = Σ g[r, j] over the j with place(j) = s, in the order of j
//     scatter        out[r, s] = the last of them, or x[r, s]
//
// Nothing is added by two threads: a place fetches what belongs to it, among the few sources of its column (`few`), or from the
// list of all sources sorted by place (`sorted`, sort.cu).

#include "common.cuh"

constexpr int WIDTH = 16 / sizeof(number);

template <class T> struct WideOf { using type = double; };
template <> struct WideOf<i64> { using type = i64; };
using Wide = WideOf<number>::type;  // what is added up

// The index (outer, m, columns) of places along an axis of `size`. (outer, k, column) is source j, (outer, s, column) place s.
struct Sources {
    const i64* index;
    i64 size, m, columns;
    __device__ i64 place(i64 j) const { return (j / columns / m * size + index[j]) * columns + j % columns; }
};

// For each pack of the thread: f(at, r, i, first) with at = (r · count + i) · width + first, the place of its first element.
template <int N, class F> __device__ void each_pack(i64 n, i64 count, i64 width, F f) {
    for (i64 item = first(); N * item < n; item += stride()) {
        const i64 at = N * item, row = at / width;
        f(at, row / count, row % count, at % width);
    }
}

template <int N>
__device__ void fetch(const number* x, Sources sources, number* out, i64 n, i64 count, i64 rows, i64 width) {
    each_pack<N>(n, count, width, [&](i64 at, i64 r, i64 j, i64 first) {
        Pack<number, N> pack;
        load(x + (r * rows + sources.place(j)) * width, first, width, pack);
        store(out, at, n, pack);
    });
}

// Three ways to find the sources of place s in block r, in order: each(r, s, put, put_sum) calls put(j) for a source, and
// put_sum for the sums of several.
struct Few : Sources {
    template <class Put, class PutSum> __device__ void each(i64, i64 s, Put put, PutSum) const {
        const i64 top = s / columns / size * m, column = s % columns;
        for (i64 k = 0; k < m; ++k) {
            const i64 j = (top + k) * columns + column;
            if (place(j) == s) put(j);
        }
    }
};

// A run is RUN sources of the sorted list. Where all of them have one place, a thread of its own adds them up ahead: so a place
// that nearly all sources belong to has no long way to go.
struct Sorted {
    const i64 *order, *starts;
    const Wide* sums;  // of the runs, (blocks, runs, width); null if there are none
    i64 runs, width;
    template <class Put, class PutSum> __device__ void each(i64 r, i64 s, Put put, PutSum put_sum) const {
        const i64 start = starts[s], stop = starts[s + 1];
        const i64 whole = sums ? min(stop, (start + RUN - 1) / RUN * RUN) : stop, rest = max(whole, stop / RUN * RUN);
        each_of(start, whole, put);
        for (i64 i = whole; i < rest; i += RUN) put_sum(sums + (r * runs + i / RUN) * width);
        each_of(rest, stop, put);
    }
    template <class Put> __device__ void each_of(i64 start, i64 stop, Put put) const {
#pragma unroll 4
        for (i64 i = start; i < stop; ++i) put(order[i]);
    }
};

// Where nothing is added, the last one is enough.
struct Last {
    const i64 *order, *starts;
    template <class Put, class PutSum> __device__ void each(i64, i64 s, Put put, PutSum) const {
        if (starts[s] < starts[s + 1]) put(order[starts[s + 1] - 1]);
    }
};

template <bool ADD, int N, class Found>
__device__ void collect(const number* x, const number* g, Found found, number* out, i64 n, i64 count, i64 rows, i64 width) {
    each_pack<N>(n, rows, width, [&](i64 at, i64 r, i64 s, i64 first) {
        Pack<Wide, N> result;
        Pack<number, N> pack{};
        if (!ADD) load(x, at, n, pack);
#pragma unroll
        for (int e = 0; e < N; ++e) result.element[e] = pack.element[e];
        const auto put = [&](i64 j) {
            load(g + (r * count + j) * width, first, width, pack);
#pragma unroll
            for (int e = 0; e < N; ++e) result.element[e] = pack.element[e] + (ADD ? result.element[e] : 0);
        };
        const auto put_sum = [&](const Wide* sums) {
#pragma unroll
            for (int e = 0; e < N; ++e) result.element[e] += sums[first + e];
        };
        found.each(r, s, put, put_sum);
#pragma unroll
        for (int e = 0; e < N; ++e) pack.element[e] = number(result.element[e]);
        store(out, at, n, pack);
    });
}

template <bool ADD, class Found>
__device__ void collect(const number* x, const number* g, Found found, number* out, i64 n, i64 count, i64 rows, i64 width) {
    if (width % WIDTH == 0)
        collect<ADD, WIDTH>(x, g, found, out, n, count, rows, width);
    else
        collect<ADD, 1>(x, g, found, out, n, count, rows, width);
}

extern "C" __global__ void gather(const number* x, const long long* index, number* out, long long n, long long count,
                                  long long rows, long long width, long long size, long long m, long long columns) {
    const Sources sources{index, size, m, columns};
    if (width % WIDTH == 0)
        fetch<WIDTH>(x, sources, out, n, count, rows, width);
    else
        fetch<1>(x, sources, out, n, count, rows, width);
}

extern "C" __global__ void scatter_add_few(const number* g, const long long* index, number* out, long long n, long long count,
                                           long long rows, long long width, long long size, long long m, long long columns) {
    collect<true>(nullptr, g, Few{{index, size, m, columns}}, out, n, count, rows, width);
}

extern "C" __global__ void scatter_few(const number* x, const number* g, const long long* index, number* out, long long n,
                                       long long count, long long rows, long long width, long long size, long long m,
                                       long long columns) {
    collect<false>(x, g, Few{{index, size, m, columns}}, out, n, count, rows, width);
}

// keys[j] = the place of source j.
extern "C" __global__ void places(const long long* index, unsigned long long* keys, long long count, long long size, long long m,
                                  long long columns) {
    const Sources sources{index, size, m, columns};
    for (i64 j = first(); j < count; j += stride()) keys[j] = sources.place(j);
}

// starts[s] = how many sources have a place before s, for s = 0 to rows.
extern "C" __global__ void starts(const unsigned long long* keys, const long long* order, long long* starts, long long count,
                                  long long rows) {
    for (i64 s = first(); s <= rows; s += stride()) {
        i64 low = 0, high = count;
        while (low < high) {
            const i64 middle = (low + high) / 2;
            if (i64(keys[order[middle]]) < s)
                low = middle + 1;
            else
                high = middle;
        }
        starts[s] = low;
    }
}

template <int N>
__device__ void add_runs(const number* g, const i64* order, const u64* keys, Wide* sums, i64 n, i64 count, i64 runs,
                         i64 width) {
    each_pack<N>(n, runs, width, [&](i64 at, i64 r, i64 c, i64 first) {
        const i64* run = order + c * RUN;
        if (keys[run[0]] != keys[run[RUN - 1]]) return;
        Wide total[N] = {};
#pragma unroll 4
        for (i64 i = 0; i < RUN; ++i) {
            Pack<number, N> pack;
            load(g + (r * count + run[i]) * width, first, width, pack);
#pragma unroll
            for (int e = 0; e < N; ++e) total[e] += pack.element[e];
        }
#pragma unroll
        for (int e = 0; e < N; ++e) sums[at + e] = total[e];
    });
}

// `sums`, here and below, has elements of Wide.
extern "C" __global__ void scatter_add_runs(const number* g, const long long* order, const unsigned long long* keys,
                                            double* sums, long long n, long long count, long long runs, long long width) {
    if (width % WIDTH == 0)
        add_runs<WIDTH>(g, order, keys, reinterpret_cast<Wide*>(sums), n, count, runs, width);
    else
        add_runs<1>(g, order, keys, reinterpret_cast<Wide*>(sums), n, count, runs, width);
}

extern "C" __global__ void scatter_add_sorted(const number* g, const long long* order, const long long* starts,
                                              const double* sums, number* out, long long n, long long count, long long rows,
                                              long long width, long long runs) {
    const Sorted found{order, starts, reinterpret_cast<const Wide*>(sums), runs, width};
    collect<true>(nullptr, g, found, out, n, count, rows, width);
}

extern "C" __global__ void scatter_sorted(const number* x, const number* g, const long long* order, const long long* starts,
                                          number* out, long long n, long long count, long long rows, long long width) {
    collect<false>(x, g, Last{order, starts}, out, n, count, rows, width);
}

// out[i, c] = 1 where c is index[i], else 0.
extern "C" __global__ void one_hot(const long long* index, long long* out, long long n, long long classes) {
    for (i64 i = first(); i < n; i += stride()) out[i] = index[i / classes] == i % classes;
}
