// Pooling on the GPU: __init__.py has the formulas. Each thread writes elements of its own: the transposed maps, too, are written
// as gathers, over the windows that have a position in them.
//
//     input    . . x . .        adaptive windows:  floor(p n / m) ... ceil((p + 1) n / m)
//     windows  [ p ]            over x:            floor(x m / n) ... ceil((x + 1) m / n)
//                [p+1]          (m windows on n positions: the same formula, the roles exchanged)

#include "common.cuh"
#include "window.cuh"

struct Planes {
    i64 index;     // of the plane
    int position;  // in it
};
__device__ Planes split(i64 i, int size) { return {i / size, int(i % size)}; }

// The span of each axis that covers part p of `parts`, where they share `sizes` evenly.
__device__ Box adaptive(const int* sizes, const int* parts, Place p) {
    Box box;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        box.first[i] = int(i64(p.axis[i]) * sizes[i] / parts[i]);
        box.count[i] = int((i64(p.axis[i] + 1) * sizes[i] + parts[i] - 1) / parts[i]) - box.first[i];
        box.step[i] = 1;
    }
    return box;
}

// Of two candidates the winner: NaN beats all and a later NaN an earlier one, else the larger, else the earlier. No place is -1.
struct Winner {
    __device__ Indexed<real> operator()(Indexed<real> a, Indexed<real> b) const {
        if (a.at < 0 || b.at < 0) return a.at < 0 ? b : a;
        const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
        if (a_nan || b_nan) return a_nan && (!b_nan || a.at > b.at) ? a : b;
        return a.value > b.value || (a.value == b.value && a.at < b.at) ? a : b;
    }
};

// values[i], indices[i]: the winner of window i. Each has `lanes` threads, which meet at the end.
extern "C" __global__ void max_forward(const real* x, real* values, long long* indices, long long planes, bool spans, int lanes,
                                       Window window) {
    const int size = volume(window.input), out = volume(window.out);
    const i64 n = planes * out;
    const int lane = threadIdx.x % lanes;
    for (i64 i = first() / lanes; i < whole_warps(n, lanes); i += stride() / lanes) {
        const Planes to = split(min(i, n - 1), out);
        const real* plane = x + to.index * size;
        const Place p = place(to.position, window.out);
        const Box box = spans ? adaptive(window.input, window.out, p) : taps_inside(window, p);
        Indexed<real> winner{0, -1};
        each_place(box, window.input, lane, lanes, [&](int at) { winner = Winner()(winner, Indexed<real>{plane[at], at}); });
        winner = lanes_reduce(winner, lanes, Winner());
        if (lane == 0 && i < n) values[i] = winner.value, indices[i] = winner.at;
    }
}

extern "C" __global__ void gather(const real* x, const long long* indices, real* y, long long planes, int size, int out) {
    for (i64 i = first(); i < planes * out; i += stride()) y[i] = x[i / out * size + indices[i]];
}

// dx[j] = Σ g[p] over the windows p that have j in them and won it, in their order.
extern "C" __global__ void scatter(const real* g, const long long* indices, real* dx, long long planes, bool spans,
                                   Window window) {
    const int size = volume(window.input), out = volume(window.out);
    for (i64 i = first(); i < planes * size; i += stride()) {
        const Planes to = split(i, size);
        const Place j = place(to.position, window.input);
        const Box box = spans ? adaptive(window.out, window.input, j) : windows_over(window, j);
        real sum = 0;
        each_place(box, window.out, 0, 1, [&](int p) {
            const i64 from = to.index * out + p;
            if (indices[from] == to.position) sum += g[from];
        });
        dx[i] = sum;
    }
}

// The number that the sum of the window at p is divided by: `divisor`, or if 0 its taps.
__device__ real share_of(const Window& window, Place p, bool include_pad, real divisor) {
    if (divisor != 0) return divisor;
    int taps = 1;
#pragma unroll
    for (int i = 0; i < 3; ++i) taps *= tap_count(window, i, p.axis[i], include_pad);
    return real(taps);
}

extern "C" __global__ void avg_forward(const real* x, real* y, long long planes, bool include_pad, real divisor, int lanes,
                                       Window window) {
    const int size = volume(window.input), out = volume(window.out);
    const i64 n = planes * out;
    const int lane = threadIdx.x % lanes;
    for (i64 i = first() / lanes; i < whole_warps(n, lanes); i += stride() / lanes) {
        const Planes to = split(min(i, n - 1), out);
        const real* plane = x + to.index * size;
        const Place p = place(to.position, window.out);
        Total<real> total;
        each_place(taps_inside(window, p), window.input, lane, lanes, [&](int at) { total.add(plane[at]); });
        const double sum = lanes_reduce(total.value(), lanes, Sum());
        if (lane == 0 && i < n) y[i] = real(sum) / share_of(window, p, include_pad, divisor);
    }
}

extern "C" __global__ void avg_backward(const real* g, real* dx, long long planes, bool include_pad, real divisor,
                                        Window window) {
    const int size = volume(window.input), out = volume(window.out);
    for (i64 i = first(); i < planes * size; i += stride()) {
        const Planes to = split(i, size);
        const Place j = place(to.position, window.input);
        real sum = 0;
        each_place(windows_over(window, j), window.out, 0, 1, [&](int at) {
            const Place p = place(at, window.out);
            bool reads = true;
#pragma unroll
            for (int k = 0; k < 3; ++k) reads = reads && tap_at(window, k, p.axis[k], j.axis[k]) >= 0;
            if (reads) sum += g[to.index * out + at] / share_of(window, p, include_pad, divisor);
        });
        dx[i] = sum;
    }
}
