// A window that slides over the axes D, H, W of an input (window.py has the picture), and what lies in it.

struct Window {
    int input[3], kernel[3], stride[3], low[3], high[3], dilation[3], out[3];
};

// Places that stand a step apart, along each axis.
struct Box {
    int first[3], count[3], step[3];
    __device__ int size() const { return count[0] * count[1] * count[2]; }
};

__device__ int volume(const int (&sizes)[3]) { return sizes[0] * sizes[1] * sizes[2]; }

// n = outer * size + inner, for numbers that are not negative: to divide them without a sign takes half the instructions.
struct Pair {
    int outer, inner;
};
__device__ Pair split(int n, int size) {
    const int outer = int(u32(n) / u32(size));
    return {outer, n - outer * size};
}

// (D, H, W) of a flat position among `sizes`.
struct Place {
    int axis[3];
};
__device__ Place place(int position, const int (&sizes)[3]) {
    const Pair row = split(position, sizes[2]), plane = split(row.outer, sizes[1]);
    return {{plane.outer, plane.inner, row.inner}};
}

__device__ int ceil_divide(int a, int b) { return a > 0 ? (a - 1) / b + 1 : -(-a / b); }

// How many of the multiples 0, d, 2d, ... lie below `end`, at most n.
__device__ int multiples_below(int end, int d, int n) { return max(0, min(n, ceil_divide(end, d))); }

// The taps that lie in the input, of the window at p.
__device__ Box taps_inside(const Window& window, Place p) {
    Box box;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        const int start = p.axis[i] * window.stride[i] - window.low[i], d = window.dilation[i], k = window.kernel[i];
        const int skipped = multiples_below(-start, d, k);
        box.first[i] = start + skipped * d;
        box.count[i] = multiples_below(window.input[i] - start, d, k) - skipped;
        box.step[i] = d;
    }
    return box;
}

// How many taps of the p-th window of an axis lie in the input, or in the input and its pads.
__device__ int tap_count(const Window& window, int i, int p, bool with_pads) {
    const int start = p * window.stride[i] - window.low[i], d = window.dilation[i], k = window.kernel[i];
    const int first = with_pads ? -window.low[i] : 0, stop = window.input[i] + (with_pads ? window.high[i] : 0);
    return multiples_below(stop - start, d, k) - multiples_below(first - start, d, k);
}

// The windows that have the input's position x between their first and their last tap.
__device__ Box windows_over(const Window& window, Place x) {
    Box box;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        const int reach = window.dilation[i] * (window.kernel[i] - 1), at = x.axis[i] + window.low[i];
        box.first[i] = max(0, ceil_divide(at - reach, window.stride[i]));
        box.count[i] = max(0, min(window.out[i], at / window.stride[i] + 1) - box.first[i]);
        box.step[i] = 1;
    }
    return box;
}

// Which tap of the p-th window of an axis reads position x, -1 if none does.
__device__ int tap_at(const Window& window, int i, int p, int x) {
    const int offset = x + window.low[i] - p * window.stride[i], tap = offset / window.dilation[i];
    return offset >= 0 && tap < window.kernel[i] && tap * window.dilation[i] == offset ? tap : -1;
}

// Calls visit(position) for every lanes-th place of the box from the lane-th on, in row-major order.
template <class Visit> __device__ void each_place(const Box& box, const int* sizes, int lane, int lanes, Visit visit) {
    if (box.size() == 0) return;
    int d = 0, h = 0, w = lane;
    while (true) {
        for (; w >= box.count[2]; w -= box.count[2]) ++h;
        for (; h >= box.count[1]; h -= box.count[1]) ++d;
        if (d >= box.count[0]) return;
        const int row = (box.first[0] + d * box.step[0]) * sizes[1] + box.first[1] + h * box.step[1];
        visit(row * sizes[2] + box.first[2] + w * box.step[2]);
        w += lanes;
    }
}
