// Convolution and its gradients as products of matrices whose operands are gathered (gemm.cuh), nothing is unfolded in memory:
//
//                     i              j                         k                    a[i, k]         b[k, j]
//     forward         o of a group   n, position               c, tap               w[o, c, tap]    x at the position's tap
//     grad_input      c of a group   n, position of a phase    o, tap of the phase  w[o, c, tap]    g at the position's tap
//     grad_weight     o of a group   c, tap                    n, position          g               x at the position's tap
//
// conv.py explains the operations, conv.cuh phases and taps. Each kernel stands here once for each size of the tile.

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

    __device__ static Part outside() { return {0, -(1 << 30), 0, 0}; }
    __device__ static bool wide() { return false; }
    __device__ Part outer(int x) const { return TAPS_OUTSIDE ? tap(x) : position(x); }
    __device__ Part inner(int k) const { return TAPS_OUTSIDE ? position(k) : tap(k); }

    __device__ const real* at(const Part& outer, const Part& inner) const {
        const int(&size)[3] = lattice.source;
        const bool there = u32(outer.y + inner.y) < u32(size[0]) && u32(outer.z + inner.z) < u32(size[1]) &&
                           u32(outer.w + inner.w) < u32(size[2]);
        return there ? data + outer.x + inner.x : nullptr;
    }

private:
    __device__ Part part(int offset, int d, int h, int w) const {
        return {offset + (d * lattice.source[1] + h) * lattice.source[2] + w, d, h, w};
    }
    __device__ Part position(int j) const {
        const Lattice& l = lattice;
        const int each = volume(l.positions), n = j / each;
        const Index q = unravel(j - n * each, l.positions);
        return part(n * image, l.origin[0] + q.at[0] * l.stride[0], l.origin[1] + q.at[1] * l.stride[1],
                    l.origin[2] + q.at[2] * l.stride[2]);
    }
    __device__ Part tap(int k) const {
        const Lattice& l = lattice;
        const int each = volume(l.taps), channel = k / each;
        const Index m = unravel(k - channel * each, l.taps);
        return part(channel * volume(l.source), m.at[0] * l.reach[0], m.at[1] * l.reach[1], m.at[2] * l.reach[2]);
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
        const int each = volume(lattice.taps), channel = k / each;
        return channel * channel_step + lattice.kernel_place(k - channel * each);
    }
};

// The planes of a group in g: outer is a channel, inner an image and a place.
struct Planes : Operand<real> {
    static constexpr bool along_inner = true;
    int plane, image;
    __device__ Planes(const real* data, int plane, int image) : Operand<real>{data}, plane(plane), image(image) {}
    __device__ int outer(int x) const { return x * plane; }
    __device__ int inner(int k) const { return k / plane * image + k % plane; }
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
        const int each = volume(lattice.positions), n = j / each;
        return n * image + lattice.target_place(j - n * each);
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

// ---- Kernels. Blocks that read the same part of the images follow each other.

struct Tile {
    int i0, j0, rest;
    __device__ Tile(int block, int rows, int columns, int I, int J) {
        const int i_tiles = (I + rows - 1) / rows, j_tiles = (J + columns - 1) / columns;
        i0 = block % i_tiles * rows;
        j0 = block / i_tiles % j_tiles * columns;
        rest = block / i_tiles / j_tiles;
    }
};

// Forward, or the gradient with respect to the input if `transposed`: one split of k, `depth` long, of one phase of a group.
// `to` has room for all splits.
template <class Core>
__device__ void correlate(const real* from, const real* w, const real* b, real* to, const Conv& c, bool transposed, int depth) {
    const int from_channels = transposed ? c.outputs : c.inputs, to_channels = transposed ? c.inputs : c.outputs;
    const int phases = transposed ? volume(c.stride) : 1, kernel = volume(c.kernel);
    const int positions = transposed ? phase_positions(c) : volume(c.out);
    const Tile tile(blockIdx.x, Core::ROWS, Core::COLUMNS, to_channels, c.images * positions);
    const int phase = tile.rest % phases, group = tile.rest / phases % c.groups, split = tile.rest / phases / c.groups;
    __shared__ Lattice lattice;
    if (threadIdx.x == 0) {
        if (transposed)
            phase_lattice(c, phase, lattice);
        else
            forward_lattice(c, lattice);
    }
    __syncthreads();
    const int J = c.images * volume(lattice.positions), K = from_channels * volume(lattice.taps);
    if (tile.j0 >= J) return;  // phases differ in their size

    const int from_plane = volume(lattice.source), to_plane = volume(lattice.target);
    const int from_image = c.groups * from_channels * from_plane, to_image = c.groups * to_channels * to_plane;
    from += group * from_channels * from_plane;
    to += i64(split) * c.images * to_image + group * to_channels * to_plane;
    w += group * c.outputs * c.inputs * kernel;
    const int o_step = c.inputs * kernel, c_step = kernel;
    gemm<Core>(Weights(w, lattice, transposed ? c_step : o_step, transposed ? o_step : c_step),
               Gather<false>{from, lattice, from_image},
               Target{to, b ? b + group * to_channels : nullptr, lattice, to_image},
               tile.i0, tile.j0, to_channels, J, split * depth, min(K, (split + 1) * depth));
}

template <class Core> __device__ void grad_weight(const real* x, const real* g, real* dw, const Conv& c, int depth) {
    const int taps = volume(c.kernel), out = volume(c.out), input = volume(c.input), J = c.inputs * taps, K = c.images * out;
    const Tile tile(blockIdx.x, Core::ROWS, Core::COLUMNS, c.outputs, J);
    const int group = tile.rest % c.groups, split = tile.rest / c.groups;
    __shared__ Lattice lattice;
    if (threadIdx.x == 0) forward_lattice(c, lattice);
    __syncthreads();
    const Planes planes(g + group * c.outputs * out, out, c.groups * c.outputs * out);
    const Gather<true> gather{x + group * c.inputs * input, lattice, c.groups * c.inputs * input};
    const Filters filters{dw + i64(split * c.groups + group) * c.outputs * J, J};
    gemm<Core>(planes, gather, filters, tile.i0, tile.j0, c.outputs, J, split * depth, min(K, (split + 1) * depth));
}

using Tile128x128 = Core<128, 128, 32, 64>;
using Tile64x64 = Core<64, 64, 32, 64>;
using Tile32x128 = Core<32, 128, 32, 64>;
using Tile16x128 = Core<16, 128, 16, 64>;
using Tile32x32 = Core<32, 32, 16, 32>;

extern "C" __global__ void __launch_bounds__(Tile128x128::THREADS, Tile128x128::RESIDENT)
correlate_128x128(const real* from, const real* w, const real* b, real* to, const Conv c, bool transposed, int depth) {
    correlate<Tile128x128>(from, w, b, to, c, transposed, depth);
}
extern "C" __global__ void __launch_bounds__(Tile64x64::THREADS, Tile64x64::RESIDENT)
correlate_64x64(const real* from, const real* w, const real* b, real* to, const Conv c, bool transposed, int depth) {
    correlate<Tile64x64>(from, w, b, to, c, transposed, depth);
}
extern "C" __global__ void __launch_bounds__(Tile32x128::THREADS, Tile32x128::RESIDENT)
correlate_32x128(const real* from, const real* w, const real* b, real* to, const Conv c, bool transposed, int depth) {
    correlate<Tile32x128>(from, w, b, to, c, transposed, depth);
}
extern "C" __global__ void __launch_bounds__(Tile16x128::THREADS, Tile16x128::RESIDENT)
correlate_16x128(const real* from, const real* w, const real* b, real* to, const Conv c, bool transposed, int depth) {
    correlate<Tile16x128>(from, w, b, to, c, transposed, depth);
}
extern "C" __global__ void __launch_bounds__(Tile32x32::THREADS, Tile32x32::RESIDENT)
correlate_32x32(const real* from, const real* w, const real* b, real* to, const Conv c, bool transposed, int depth) {
    correlate<Tile32x32>(from, w, b, to, c, transposed, depth);
}
extern "C" __global__ void __launch_bounds__(Tile128x128::THREADS, Tile128x128::RESIDENT)
grad_weight_128x128(const real* x, const real* g, real* dw, const Conv c, int depth) {
    grad_weight<Tile128x128>(x, g, dw, c, depth);
}
extern "C" __global__ void __launch_bounds__(Tile64x64::THREADS, Tile64x64::RESIDENT)
grad_weight_64x64(const real* x, const real* g, real* dw, const Conv c, int depth) {
    grad_weight<Tile64x64>(x, g, dw, c, depth);
}
extern "C" __global__ void __launch_bounds__(Tile32x128::THREADS, Tile32x128::RESIDENT)
grad_weight_32x128(const real* x, const real* g, real* dw, const Conv c, int depth) {
    grad_weight<Tile32x128>(x, g, dw, c, depth);
}
extern "C" __global__ void __launch_bounds__(Tile16x128::THREADS, Tile16x128::RESIDENT)
grad_weight_16x128(const real* x, const real* g, real* dw, const Conv c, int depth) {
    grad_weight<Tile16x128>(x, g, dw, c, depth);
}
extern "C" __global__ void __launch_bounds__(Tile32x32::THREADS, Tile32x32::RESIDENT)
grad_weight_32x32(const real* x, const real* g, real* dw, const Conv c, int depth) {
    grad_weight<Tile32x32>(x, g, dw, c, depth);
}

extern "C" __global__ void add_splits(const real* partial, const real* b, real* y, long long n, int splits, int plane,
                                      int channels) {
    sum_splits(partial, b, y, n, splits, plane, channels);
}
