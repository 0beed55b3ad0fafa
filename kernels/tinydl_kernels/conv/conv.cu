// Convolution and its gradients as products of matrices whose operands are gathered (gemm.cuh), nothing is unfolded in memory:
//
//                     i              j                         k                    a[i, k]         b[k, j]
//     forward         o of a group   n, position               c, tap               w[o, c, tap]    x at the position's tap
//     grad_input      c of a group   n, position of a phase    o, tap of the phase  w[o, c, tap]    g at the position's tap
//     grad_weight     o of a group   c, tap                    n, position          g               x at the position's tap
//
// __init__.py explains the operations, conv.cuh phases and taps. Each kernel stands here once for each size of the tile.

#include "conv.cuh"
#include "gemm.cuh"

#if defined(TENSOR_CORES) && __CUDA_ARCH__ >= 800
template <int... SIZES> using Core = TensorCore<SIZES...>;
#else
template <int... SIZES> using Core = Simt<real, SIZES...>;
#endif

// ---- Operands

// Places in the source of a lattice. A part of a position or a tap is its offset and its place on the three axes, so that the
// sum of two parts tells whether there is anything at all.
template <bool TAPS_OUTSIDE> struct Gather {
    using Part = int4;
    static constexpr bool along_inner = TAPS_OUTSIDE;
    const real* data;
    const Lattice& lattice;
    int image;  // elements from one image to the next

    __device__ static Part outside() { return {0, OUTSIDE, 0, 0}; }
    __device__ static bool wide() { return false; }
    __device__ Part outer(int x) const { return TAPS_OUTSIDE ? tap(x) : position(x); }
    __device__ Part inner(int k) const { return TAPS_OUTSIDE ? position(k) : tap(k); }

    __device__ Spot at(const Part& outer, const Part& inner) const {
        const int(&size)[3] = lattice.source;
        const bool there = (u32(outer.y + inner.y) < u32(size[0])) & (u32(outer.z + inner.z) < u32(size[1])) &
                           (u32(outer.w + inner.w) < u32(size[2]));  // no branches
        return {outer.x + inner.x, there};
    }

private:
    __device__ Part part(int offset, int d, int h, int w) const {
        return {offset + (d * lattice.source[1] + h) * lattice.source[2] + w, d, h, w};
    }
    __device__ Part position(int j) const {
        const Lattice& l = lattice;
        const Pair n = split(j, volume(l.positions));
        const Place q = place(n.inner, l.positions);
        return part(n.outer * image, l.origin[0] + q.axis[0] * l.stride[0], l.origin[1] + q.axis[1] * l.stride[1],
                    l.origin[2] + q.axis[2] * l.stride[2]);
    }
    __device__ Part tap(int k) const {
        const Lattice& l = lattice;
        const Pair channel = split(k, volume(l.taps));
        const Place m = place(channel.inner, l.taps);
        return part(channel.outer * volume(l.source), m.axis[0] * l.reach[0], m.axis[1] * l.reach[1], m.axis[2] * l.reach[2]);
    }
};

// The weights of a group that a lattice meets: outer is a channel, inner another one and a tap.
struct Weights : Operand<real> {
    static constexpr bool along_inner = true;
    const Lattice& lattice;
    int outer_step, channel_step;
    __device__ Weights(const real* data, const Lattice& lattice, int outer_step, int channel_step)
        : Operand<real>{data}, lattice(lattice), outer_step(outer_step), channel_step(channel_step) {}
    __device__ int outer(int x) const { return x * outer_step; }
    __device__ int inner(int k) const {
        const Pair channel = split(k, volume(lattice.taps));
        return channel.outer * channel_step + lattice.kernel_place(channel.inner);
    }
};

// The planes of a group in g: outer is a channel, inner an image and a place.
struct Planes : Operand<real> {
    static constexpr bool along_inner = true;
    int plane, image;
    __device__ Planes(const real* data, int plane, int image) : Operand<real>{data}, plane(plane), image(image) {}
    __device__ int outer(int x) const { return x * plane; }
    __device__ int inner(int k) const {
        const Pair n = split(k, plane);
        return n.outer * image + n.inner;
    }
};

// ---- Results

// The planes of a group in the target of a lattice.
struct Target {
    real* data;
    const real* biases;
    const Lattice& lattice;
    int image;
    __device__ int row(int i) const { return i * volume(lattice.target); }
    __device__ int column(int j) const {
        const Pair n = split(j, volume(lattice.positions));
        return n.outer * image + lattice.target_place(n.inner);
    }
    __device__ real bias(int i) const { return biases ? biases[i] : real(0); }
};

struct Filters {  // of a group
    real* data;
    int length;
    __device__ int row(int i) const { return i * length; }
    __device__ int column(int j) const { return j; }
    __device__ real bias(int) const { return 0; }
};

// ---- Kernels

// Forward, or the gradient with respect to the input if `transposed`: one split of k, `depth` long, of one phase of a group.
// `to` has room for all splits.
template <class Core>
__device__ void correlate(const real* from, const real* w, const real* b, real* to, const Conv& c, bool transposed, int depth) {
    const int from_channels = transposed ? c.outputs : c.inputs, to_channels = transposed ? c.inputs : c.outputs;
    const int phases = transposed ? volume(c.window.stride) : 1;
    const int positions = transposed ? phase_positions(c.window) : volume(c.window.out);
    const Tile tile(blockIdx.x, Core::ROWS, Core::COLUMNS, to_channels, c.images * positions);
    const int phase = tile.rest % phases, group = tile.rest / phases % c.groups, split = tile.rest / phases / c.groups;
    __shared__ Lattice lattice;
    if (threadIdx.x == 0) {
        if (transposed)
            phase_lattice(c.window, phase, lattice);
        else
            forward_lattice(c.window, lattice);
    }
    __syncthreads();
    const int J = c.images * volume(lattice.positions), K = from_channels * volume(lattice.taps);
    if (tile.j0 >= J) return;  // phases differ in their size

    const int kernel = volume(lattice.kernel), from_plane = volume(lattice.source), to_plane = volume(lattice.target);
    const int from_image = c.groups * from_channels * from_plane, to_image = c.groups * to_channels * to_plane;
    const int o_step = c.inputs * kernel, c_step = kernel;
    const Weights weights(w + group * c.outputs * o_step, lattice, transposed ? c_step : o_step, transposed ? o_step : c_step);
    const Gather<false> gather{from + group * from_channels * from_plane, lattice, from_image};
    const Target target{to + i64(split) * c.images * to_image + group * to_channels * to_plane,
                        b ? b + group * to_channels : nullptr, lattice, to_image};
    gemm<Core>(weights, gather, target, tile.i0, tile.j0, to_channels, J, split * depth, min(K, (split + 1) * depth));
}

template <class Core> __device__ void grad_weight(const real* x, const real* g, real* dw, const Conv& c, int depth) {
    const int taps = volume(c.window.kernel), out = volume(c.window.out), input = volume(c.window.input);
    const int J = c.inputs * taps, K = c.images * out;
    const Tile tile(blockIdx.x, Core::ROWS, Core::COLUMNS, c.outputs, J);
    const int group = tile.rest % c.groups, split = tile.rest / c.groups;
    __shared__ Lattice lattice;
    if (threadIdx.x == 0) forward_lattice(c.window, lattice);
    __syncthreads();
    const Planes planes(g + group * c.outputs * out, out, c.groups * c.outputs * out);
    const Gather<true> gather{x + group * c.inputs * input, lattice, c.groups * c.inputs * input};
    const Filters filters{dw + i64(split * c.groups + group) * c.outputs * J, J};
    gemm<Core>(planes, gather, filters, tile.i0, tile.j0, c.outputs, J, split * depth, min(K, (split + 1) * depth));
}

#define KERNELS(SIZE, ...) \
    using Core##SIZE = Core<__VA_ARGS__>; \
    extern "C" __global__ void __launch_bounds__(Core##SIZE::THREADS, Core##SIZE::RESIDENT) \
    correlate_##SIZE(const real* from, const real* w, const real* b, real* to, Window window, int images, int groups, \
                     int inputs, int outputs, bool transposed, int depth) { \
        correlate<Core##SIZE>(from, w, b, to, {window, images, groups, inputs, outputs}, transposed, depth); \
    } \
    extern "C" __global__ void __launch_bounds__(Core##SIZE::THREADS, Core##SIZE::RESIDENT) \
    grad_weight_##SIZE(const real* x, const real* g, real* dw, Window window, int images, int groups, int inputs, int outputs, \
                       int depth) { \
        grad_weight<Core##SIZE>(x, g, dw, {window, images, groups, inputs, outputs}, depth); \
    }
KERNELS(128x128, 128, 128, 32, 64)
KERNELS(64x64, 64, 64, 32, 64)
KERNELS(32x128, 32, 128, 32, 64)
KERNELS(16x128, 16, 128, 16, 64)
KERNELS(32x32, 32, 32, 16, 32)

extern "C" __global__ void add_splits(const real* partial, const real* b, real* y, long long n, int splits, int plane,
                                      int channels) {
    sum_splits(partial, b, y, n, splits, plane, channels);
}
