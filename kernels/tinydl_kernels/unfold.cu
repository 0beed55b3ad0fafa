// Every window as a column, and back: the twin of unfold.py. `fold` is a gather over the windows that have a position in them.

#include "common.cuh"
#include "window.cuh"

// y (planes, K, L): tap t of window p.
extern "C" __global__ void unfold(const real* x, real* y, long long planes, Window window) {
    const int size = volume(window.input), out = volume(window.out);
    const int taps = volume(window.kernel);
    for (i64 i = first(); i < planes * taps * out; i += stride()) {
        const i64 row = i / out;
        const Place p = place(int(i - row * out), window.out), tap = place(int(row % taps), window.kernel);
        int at = 0;
        bool inside = true;
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            const int position = p.axis[k] * window.stride[k] + tap.axis[k] * window.dilation[k] - window.low[k];
            inside = inside && position >= 0 && position < window.input[k];
            at = at * window.input[k] + position;
        }
        y[i] = inside ? x[row / taps * size + at] : real(0);
    }
}

// x[j] = Σ y[t, p] over the windows p that read j, by tap t.
extern "C" __global__ void fold(const real* y, real* x, long long planes, Window window) {
    const int size = volume(window.input), out = volume(window.out);
    const int taps = volume(window.kernel);
    for (i64 i = first(); i < planes * size; i += stride()) {
        const i64 plane = i / size;
        const Place j = place(int(i - plane * size), window.input);
        real sum = 0;
        each_place(windows_over(window, j), window.out, 0, 1, [&](int at) {
            const Place p = place(at, window.out);
            int tap = 0;
            bool reads = true;
#pragma unroll
            for (int k = 0; k < 3; ++k) {
                const int t = tap_at(window, k, p.axis[k], j.axis[k]);
                reads = reads && t >= 0;
                tap = tap * window.kernel[k] + t;
            }
            if (reads) sum += y[(plane * taps + tap) * out + at];
        });
        x[i] = sum;
    }
}
