// Loops over operands that broadcast, whatever their strides: `map` computes y[i] = f(a[i], b[i], ...), y contiguous.
//
// A thread takes packs of N neighbours in a row, the axis number 0: it works out their place once, and they move together where
// an operand is contiguous along the row and aligned.

#include "common.cuh"

struct Layout {  // layout.py
    i64 axes, width, size[8];
    u64 magic[8];
    i64 shift[8], step[4][8], first[4];

    // n / size[axis]
    __device__ i64 divide(i64 n, int axis) const { return i64((__umul64hi(magic[axis], u64(n)) + u64(n)) >> shift[axis]); }
};

template <class T, int N> struct Operand {
    const T* array;
    i64 at;
    Pack<T, N> pack;

    // The first `count` of N elements in a row from `at`; what is behind them is of no matter.
    __device__ void fetch(i64 step, i64 count) {
        if (step == 1 && whole<Pack<T, N>>(array + at, 0, count)) {
            pack = *reinterpret_cast<const Pack<T, N>*>(array + at);
            return;
        }
#pragma unroll
        for (int j = 0; j < N; ++j) pack.element[j] = array[at + (j < count ? j * step : 0)];
    }
};

template <int N, class Y, class F, class... Operands>
__device__ void walk(Y* y, i64 items, const Layout& layout, F f, Operands... operand) {
    for (i64 item = first(); item < items; item += stride()) {
        i64 row = layout.axes > 1 ? layout.divide(item, 0) : 0;
        const i64 column = N * (item - row * layout.size[0]), i = row * layout.width + column, count = layout.width - column;
        int k = 0;
        ((operand.at = layout.first[k] + column * layout.step[k][0], ++k), ...);
        for (int axis = 1; axis < layout.axes; ++axis) {
            const i64 above = layout.divide(row, axis), place = row - above * layout.size[axis];
            k = 0;
            ((operand.at += place * layout.step[k++][axis]), ...);
            row = above;
        }
        k = 0;
        (operand.fetch(layout.step[k++][0], count), ...);
        Pack<Y, N> result;
#pragma unroll
        for (int j = 0; j < N; ++j) result.element[j] = f(operand.pack.element[j]...);
        store(y + i, 0, count, result);
    }
}

template <int N, class Y, class F, class... T>
__device__ void map(Y* y, i64 items, const Layout& layout, F f, const T*... arrays) {
    walk<N>(y, items, layout, f, Operand<T, N>{arrays}...);
}
