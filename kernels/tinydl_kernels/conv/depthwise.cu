// Depthwise convolution, where a group has one input channel: there is no sum over input channels that a product of matrices
// could share. A thread makes one element from the taps of its window, a block one weight from all positions. The gradient with
// respect to an image of one channel is made here too. conv.cuh explains lattices.

#include "conv.cuh"

// The sum over the taps that a position meets, of one plane of the source with one filter.
__device__ real meet(const Lattice& l, const real* source, const real* filter, const Place& q) {
    real sum = 0;
    for (int i = 0; i < l.taps[0]; ++i) {
        const int d = l.origin[0] + q.axis[0] * l.stride[0] + i * l.reach[0];
        if (u32(d) >= u32(l.source[0])) continue;
        for (int j = 0; j < l.taps[1]; ++j) {
            const int h = l.origin[1] + q.axis[1] * l.stride[1] + j * l.reach[1];
            if (u32(h) >= u32(l.source[1])) continue;
            const int kd = l.tap_first[0] + i * l.tap_step[0], kh = l.tap_first[1] + j * l.tap_step[1];
            const real* taps = filter + (kd * l.kernel[1] + kh) * l.kernel[2] + l.tap_first[2];
            const real* row = source + (d * l.source[1] + h) * l.source[2];
            int w = l.origin[2] + q.axis[2] * l.stride[2];
            for (int k = 0; k < l.taps[2]; ++k, w += l.reach[2])
                if (u32(w) < u32(l.source[2])) sum += taps[k * l.tap_step[2]] * row[w];
        }
    }
    return sum;
}

// Forward, or the gradient with respect to the input if `transposed`, where an element gathers from all outputs of its group:
// they are shared out to blockDim.y threads, whose sums meet in shared memory. Blocks are counted by chunk of blockDim.x
// positions, phase, and plane of the target.
extern "C" __global__ void correlate(const real* source, const real* w, const real* b, real* target, Window window, int groups,
                                     int outputs, int chunks, bool transposed) {
    const int phases = transposed ? volume(window.stride) : 1;
    const int chunk = blockIdx.x % chunks, phase = blockIdx.x / chunks % phases, plane = blockIdx.x / chunks / phases;
    __shared__ Lattice lattice;
    __shared__ real shares[256];
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        if (transposed)
            phase_lattice(window, phase, lattice);
        else
            forward_lattice(window, lattice);
    }
    __syncthreads();
    const int position = chunk * blockDim.x + threadIdx.x;
    const bool inside = position < volume(lattice.positions);
    const int channel = plane % (transposed ? groups : groups * outputs);
    real sum = 0;
    if (inside) {
        const int size = volume(lattice.source), kernel = volume(lattice.kernel);
        const int first = transposed ? plane * outputs : plane / outputs, filter = transposed ? channel * outputs : channel;
        const Place q = place(position, lattice.positions);
        for (int i = threadIdx.y; i < (transposed ? outputs : 1); i += blockDim.y)
            sum += meet(lattice, source + i64(first + i) * size, w + (filter + i) * kernel, q);
    }
    shares[threadIdx.y * blockDim.x + threadIdx.x] = sum;
    __syncthreads();
    if (!inside || threadIdx.y > 0) return;
    for (int y = 1; y < blockDim.y; ++y) sum += shares[y * blockDim.x + threadIdx.x];
    target[i64(plane) * volume(lattice.target) + lattice.target_place(position)] = b ? sum + b[channel] : sum;
}

// A block makes one weight, of output channel blockIdx.x / taps.
extern "C" __global__ void grad_weight(const real* x, const real* g, real* dw, Window window, int images, int groups,
                                       int outputs) {
    __shared__ real scratch[33];
    const int taps = volume(window.kernel), out = volume(window.out), input = volume(window.input);
    const int channel = blockIdx.x / taps, channels = groups * outputs;
    const Place tap = place(blockIdx.x % taps, window.kernel);
    real sum = 0;
    for (int p = threadIdx.x; p < images * out; p += blockDim.x) {
        const Pair n = split(p, out);
        const Place q = place(n.inner, window.out);
        int at = 0;
        bool there = true;
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            const int x_i = q.axis[i] * window.stride[i] - window.low[i] + tap.axis[i] * window.dilation[i];
            there = there && u32(x_i) < u32(window.input[i]);
            at = at * window.input[i] + x_i;
        }
        const real* g_plane = g + i64(n.outer * channels + channel) * out;
        const real* x_plane = x + i64(n.outer * groups + channel / outputs) * input;
        if (there) sum += g_plane[n.inner] * x_plane[at];
    }
    sum = block_reduce(sum, real(0), scratch, Sum());
    if (threadIdx.x == 0) dw[blockIdx.x] = sum;
}
