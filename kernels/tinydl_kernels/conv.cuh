// What the kernels of a convolution know of its window: shared by conv.cu and depthwise.cu.

#include "common.cuh"

struct Conv {
    int images, groups, inputs, outputs;  // inputs and outputs: channels of a group
    int input[3], kernel[3], stride[3], low[3], dilation[3], out[3];  // axes D, H, W
};

__device__ int volume(const int (&sizes)[3]) { return sizes[0] * sizes[1] * sizes[2]; }

struct Index {
    int at[3];
};

// n -> its indices in an array of these sizes; what is left over counts along the first axis.
__device__ Index unravel(int n, const int (&sizes)[3]) {
    const int plane = n / sizes[2], row = plane / sizes[1];
    return {{row, plane - row * sizes[1], n - plane * sizes[2]}};
}

// A correlation along each axis: positions q of a target read places of a source, one for each tap m,
//
//     target place  target_first + q target_step  +=  w[tap_first + m tap_step] * source place  origin + q stride + m reach
//
// Forward, y correlates x with all the taps. The gradient with respect to the input correlates g, which lies `stride` apart on
// the grid of x. Input places with the same residue modulo the stride, a phase, meet the same taps, the other taps fall between
// the elements of g: so a phase is a correlation of stride 1 of its own, and no product with a zero is made.
//
//     x    0 1 2 0 1 2 0 1 2       phases of stride 3
//     g    0     1     2
struct Lattice {
    int source[3], target[3], kernel[3];  // sizes
    int positions[3], target_first[3], target_step[3];
    int taps[3], tap_first[3], tap_step[3];
    int origin[3], stride[3], reach[3];

    __device__ int target_place(int position) const {
        const Index q = unravel(position, positions);
        int place = 0;
#pragma unroll
        for (int axis = 0; axis < 3; ++axis) place = place * target[axis] + target_first[axis] + q.at[axis] * target_step[axis];
        return place;
    }

    __device__ int kernel_place(int tap) const {
        const Index m = unravel(tap, taps);
        int place = 0;
#pragma unroll
        for (int axis = 0; axis < 3; ++axis) place = place * kernel[axis] + tap_first[axis] + m.at[axis] * tap_step[axis];
        return place;
    }
};

// The lattice of the forward convolution.
__device__ void forward_lattice(const Conv& c, Lattice& l) {
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
    l.source[axis] = c.input[axis], l.target[axis] = c.out[axis], l.kernel[axis] = c.kernel[axis];
    l.positions[axis] = c.out[axis], l.target_first[axis] = 0, l.target_step[axis] = 1;
    l.taps[axis] = c.kernel[axis], l.tap_first[axis] = 0, l.tap_step[axis] = 1;
    l.origin[axis] = -c.low[axis], l.stride[axis] = c.stride[axis], l.reach[axis] = c.dilation[axis];
}}

// The lattice of a phase. Input place r + q s, with r of the phase and s the stride, meets tap t where
// r + q s + low - t d = s o, o a place of g. So the taps are tap_first, the least t >= 0 with r + low - t d = 0 modulo s, and
// every s / gcd(s, d)-th one from there on.
__device__ void phase_lattice(const Conv& c, int phase, Lattice& l) {
    const Index residue = unravel(phase, c.stride);
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
    const int r = residue.at[axis], s = c.stride[axis], d = c.dilation[axis], ahead = r + c.low[axis];
    int first = 0, step = 1;
    while (step * d % s) ++step;
    while (first < step && (ahead - first * d) % s) ++first;
    l.source[axis] = c.out[axis], l.target[axis] = c.input[axis], l.kernel[axis] = c.kernel[axis];
    l.positions[axis] = (c.input[axis] - r + s - 1) / s, l.target_first[axis] = r, l.target_step[axis] = s;
    l.taps[axis] = first < min(step, c.kernel[axis]) ? (c.kernel[axis] - first + step - 1) / step : 0;
    l.tap_first[axis] = first, l.tap_step[axis] = step;
    l.origin[axis] = (ahead - first * d) / s, l.stride[axis] = 1, l.reach[axis] = -(step * d / s);
}}

// Positions of the largest phase, which is the first one.
__device__ int phase_positions(const Conv& c) {
    int positions = 1;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) positions *= (c.input[axis] + c.stride[axis] - 1) / c.stride[axis];
    return positions;
}
