// What the kernels of a convolution know of its window: shared by conv.cu and depthwise.cu.

#include "common.cuh"
#include "window.cuh"

struct Conv {
    Window window;
    int images, groups, inputs, outputs;  // inputs and outputs: channels of a group
};

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
        const Place q = place(position, positions);
        int flat = 0;
#pragma unroll
        for (int i = 0; i < 3; ++i) flat = flat * target[i] + target_first[i] + q.axis[i] * target_step[i];
        return flat;
    }

    __device__ int kernel_place(int tap) const {
        const Place m = place(tap, taps);
        int flat = 0;
#pragma unroll
        for (int i = 0; i < 3; ++i) flat = flat * kernel[i] + tap_first[i] + m.axis[i] * tap_step[i];
        return flat;
    }
};

// The lattice of the forward convolution.
__device__ void forward_lattice(const Window& window, Lattice& l) {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        l.source[i] = window.input[i], l.target[i] = window.out[i], l.kernel[i] = window.kernel[i];
        l.positions[i] = window.out[i], l.target_first[i] = 0, l.target_step[i] = 1;
        l.taps[i] = window.kernel[i], l.tap_first[i] = 0, l.tap_step[i] = 1;
        l.origin[i] = -window.low[i], l.stride[i] = window.stride[i], l.reach[i] = window.dilation[i];
    }
}

// The lattice of a phase. Input place r + q s, with r of the phase and s the stride, meets tap t where r + q s + low - t d is
// s o, o a place of g. So the taps are tap_first, the least t >= 0 with r + low - t d = 0 modulo s, and every s / gcd(s, d)-th
// one from there on.
__device__ void phase_lattice(const Window& window, int phase, Lattice& l) {
    const Place residue = place(phase, window.stride);
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        const int r = residue.axis[i], s = window.stride[i], d = window.dilation[i], k = window.kernel[i];
        const int ahead = r + window.low[i];
        int first = 0, step = 1;
        while (step * d % s) ++step;
        while (first < step && (ahead - first * d) % s) ++first;
        l.source[i] = window.out[i], l.target[i] = window.input[i], l.kernel[i] = k;
        l.positions[i] = (window.input[i] - r + s - 1) / s, l.target_first[i] = r, l.target_step[i] = s;
        l.taps[i] = first < min(step, k) ? (k - first + step - 1) / step : 0, l.tap_first[i] = first, l.tap_step[i] = step;
        l.origin[i] = (ahead - first * d) / s, l.stride[i] = 1, l.reach[i] = -(step * d / s);
    }
}

// Positions of the largest phase, which is the first one.
__device__ int phase_positions(const Window& window) {
    int positions = 1;
#pragma unroll
    for (int i = 0; i < 3; ++i) positions *= (window.input[i] + window.stride[i] - 1) / window.stride[i];
    return positions;
}
