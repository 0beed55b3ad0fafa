// Batch normalization on the GPU: __init__.py has the formulas. Three launches each: sums, their merge, and the pass that
// writes. Small inputs need no merge.
//
// x (samples, channels, size) is summed per channel by blocks of 8 warps, whose teams walk down columns:
//
//     planes     a column is a channel of samples · size values; a block walks along it, V values at a time where they fit
//     columns    size < 8: a column is one of channels · size places of a sample; each lane has its own, each warp a sample
//
// grid (columns, or 32 at a time; parts): a part of the walk has a block of its own and leaves its sums in `partials`
// (sums, parts, columns). All orders depend on the shape alone.

#include "common.cuh"

constexpr int V = 16 / sizeof(real);

struct Shape {
    i64 samples;
    int channels, size;
    bool columns;
    int parts;
    __device__ int per_channel() const { return columns ? size : 1; }
    __device__ int width() const { return channels * per_channel(); }
    __device__ bool final() const { return parts == 1 && per_channel() == 1; }
    __device__ double count() const { return double(samples) * size; }
};

// M sums of each column. terms.add(totals, at) adds what the N values from x[at] on contribute, finish(channel, totals) makes
// the result of a channel; it is called at once if no other block has a share in that channel.
template <int M, int N, class Terms, class Finish>
__device__ void walk(const Shape& shape, Terms terms, double* partials, Finish finish) {
    const Team team{shape.columns ? 1 : 32, false};
    const int column = int(team.item()), run = shape.columns ? 1 : shape.size / N;  // steps along a row of a sample
    const i64 steps = shape.samples * run, part = (steps + shape.parts - 1) / shape.parts;
    const i64 end = min(steps, (blockIdx.y + 1) * part);
    Total<real> totals[M];
    if (column < shape.width()) {
        terms.begin(column / shape.per_channel());
        i64 step = blockIdx.y * part + team.rank(), sample = step / max(run, 1);
        int k = int(step - sample * run);
        const int samples_on = team.members() / max(run, 1), k_on = team.members() - samples_on * run;
        for (; step < end; step += team.members()) {
            terms.template add<N>(totals, ((sample * shape.width() + column) * run + k) * N);
            sample += samples_on;
            k += k_on;
            if (k >= run) k -= run, ++sample;
        }
    }
    double sums[M];
#pragma unroll
    for (int m = 0; m < M; ++m) sums[m] = team.reduce(totals[m].value(), Sum());
    if (team.rank() != 0 || column >= shape.width()) return;
    if (shape.final()) {
        finish(column, sums);
    } else {
#pragma unroll
        for (int m = 0; m < M; ++m) partials[(i64(m) * shape.parts + blockIdx.y) * shape.width() + column] = sums[m];
    }
}

template <int M, class Terms, class Finish>
__device__ void sum_channels(const Shape& shape, Terms terms, double* partials, Finish finish) {
    if (!shape.columns && shape.size % V == 0)
        walk<M, V>(shape, terms, partials, finish);
    else
        walk<M, 1>(shape, terms, partials, finish);
}

// The sums of channel blockIdx.x from those of its columns and their parts, by one warp.
template <int M, class Finish> __device__ void merge(const Shape& shape, const double* partials, Finish finish) {
    const int per_channel = shape.per_channel();
    double sums[M] = {};
    for (int j = threadIdx.x; j < shape.parts * per_channel; j += 32) {
        const i64 part = j / per_channel, column = i64(blockIdx.x) * per_channel + j % per_channel;
#pragma unroll
        for (int m = 0; m < M; ++m) sums[m] += partials[(m * shape.parts + part) * shape.width() + column];
    }
#pragma unroll
    for (int m = 0; m < M; ++m) sums[m] = warp_reduce(sums[m], Sum());
    if (threadIdx.x == 0) finish(blockIdx.x, sums);
}

// Calls body.write<N>(c, at) for the pieces of N values of x, which lie in channel c.
template <int N, class Body> __device__ void each_piece_of(i64 samples, int channels, int size, Body body) {
    const int run = size / N;
    for (i64 i = first(); i < samples * channels * run; i += stride()) body.template write<N>(int(i / run % channels), i * N);
}
template <class Body> __device__ void each_piece(i64 samples, int channels, int size, Body body) {
    if (size % V == 0)
        each_piece_of<V>(samples, channels, size, body);
    else
        each_piece_of<1>(samples, channels, size, body);
}

// N values of an array; zeros if there is none.
template <int N> __device__ Pack<real, N> loaded(const real* array, i64 at) {
    Pack<real, N> pack = {};
    if (array) load(array, at, at + N, pack);
    return pack;
}

__device__ real given(const real* array, int c, real otherwise) { return array ? array[c] : otherwise; }

// ---- Statistics, and y = (x - mean) scale + beta

// Σ (x - o), Σ (x - o)², with the channel's first value as the origin o, so that the variance does not cancel.
struct MomentTerms {
    const real* x;
    i64 size;
    real origin = 0;
    __device__ static real origin_of(const real* x, i64 at) { return x && x[at] - x[at] == 0 ? x[at] : real(0); }
    __device__ void begin(int c) { origin = origin_of(x, c * size); }
    template <int N> __device__ void add(Total<real>* totals, i64 at) const {
        const Pack<real, N> piece = loaded<N>(x, at);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const real d = piece.element[j] - origin;
            totals[0].add(d);
            totals[1].add_product(d, d);
        }
    }
};

// What rounding leaves of a mean.
__device__ double rest_of(double mean) { return mean - real(mean); }

struct MomentsOf {
    const real* x;
    double *mean, *var;
    Shape shape;
    __device__ void operator()(int c, const double* sums) const {
        const double n = shape.count(), shift = sums[0] / n, spread = sums[1] / n - shift * shift;
        const double centre = MomentTerms::origin_of(x, i64(c) * shape.size) + shift, rest = fabs(rest_of(centre));
        var[c] = spread < 0 ? 0 : spread;
        mean[c] = rest > FELT * sqrt(var[c]) && rest > SURE * fabs(centre) ? centre : double(real(centre));
    }
};

extern "C" __global__ void moments(const real* x, double* partials, double* mean, double* var, long long samples, int channels,
                                   int size, bool columns, int parts) {
    const Shape shape{samples, channels, size, columns, parts};
    sum_channels<2>(shape, MomentTerms{x, size}, partials, MomentsOf{x, mean, var, shape});
}

extern "C" __global__ void merge_moments(const real* x, double* partials, double* mean, double* var, long long samples,
                                         int channels, int size, bool columns, int parts) {
    const Shape shape{samples, channels, size, columns, parts};
    merge<2>(shape, partials, MomentsOf{x, mean, var, shape});
}

struct Normalize {
    const real* x;
    const double *mean, *var;
    const real *gamma, *beta;
    real eps;
    real* y;
    template <int N> __device__ void write(int c, i64 at) const {
        const real scale = given(gamma, c, 1) / sqrt(real(var[c]) + eps), centre = real(mean[c]);
        const real shift = given(beta, c, 0) - rest_of(mean[c]) * scale;
        Pack<real, N> piece = loaded<N>(x, at);
#pragma unroll
        for (int j = 0; j < N; ++j) piece.element[j] = (piece.element[j] - centre) * scale + shift;
        store(y, at, at + N, piece);
    }
};

extern "C" __global__ void normalize(const real* x, const double* mean, const double* var, const real* gamma, const real* beta,
                                     real eps, real* y, long long samples, int channels, int size) {
    each_piece(samples, channels, size, Normalize{x, mean, var, gamma, beta, eps, y});
}

// ---- First derivative

// Σ g, Σ g (x - mean).
struct SumTerms {
    const real *g, *x;
    const double* mean;
    real centre = 0;
    __device__ void begin(int c) { centre = real(mean[c]); }
    template <int N> __device__ void add(Total<real>* totals, i64 at) const {
        const Pack<real, N> of_g = loaded<N>(g, at), of_x = loaded<N>(x, at);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            totals[0].add(of_g.element[j]);
            totals[1].add_product(of_g.element[j], of_x.element[j] - centre);
        }
    }
};

// Per channel: dx = factors[0] g + factors[1] (x - mean) + factors[2].
struct DxFactors {
    const double *mean, *var;
    const real* gamma;
    double eps;
    real *factors, *dgamma, *dbeta;
    int channels;
    double n;
    __device__ void operator()(int c, const double* sums) const {
        const double s = 1 / sqrt(var[c] + eps), scale = given(gamma, c, 1) * s, rest = rest_of(mean[c]);
        const double sum_gx = sums[1] - rest * sums[0], of_x = -scale * s * s * sum_gx / n;
        dgamma[c] = real(sum_gx * s);
        dbeta[c] = real(sums[0]);
        factors[c] = real(scale);
        factors[channels + c] = real(of_x);
        factors[2 * channels + c] = real(-scale * sums[0] / n - of_x * rest);
    }
};

extern "C" __global__ void sums(const real* g, const real* x, const double* mean, const double* var, const real* gamma, double eps,
                                double* partials, real* factors, real* dgamma, real* dbeta, long long samples, int channels,
                                int size, bool columns, int parts) {
    const Shape shape{samples, channels, size, columns, parts};
    const DxFactors finish{mean, var, gamma, eps, factors, dgamma, dbeta, channels, shape.count()};
    sum_channels<2>(shape, SumTerms{g, x, mean}, partials, finish);
}

extern "C" __global__ void dx_factors(const real* g, const real* x, const double* mean, const double* var, const real* gamma,
                                      double eps, double* partials, real* factors, real* dgamma, real* dbeta,
                                      long long samples, int channels, int size, bool columns, int parts) {
    const Shape shape{samples, channels, size, columns, parts};
    merge<2>(shape, partials, DxFactors{mean, var, gamma, eps, factors, dgamma, dbeta, channels, shape.count()});
}

struct Dx {
    const real *g, *x;
    const double* mean;
    const real* factors;
    real* dx;
    int channels;
    template <int N> __device__ void write(int c, i64 at) const {
        const real centre = real(mean[c]), f0 = factors[c], f1 = factors[channels + c], f2 = factors[2 * channels + c];
        const Pack<real, N> of_g = loaded<N>(g, at), of_x = loaded<N>(x, at);
        Pack<real, N> piece;
#pragma unroll
        for (int j = 0; j < N; ++j) piece.element[j] = f0 * of_g.element[j] + f1 * (of_x.element[j] - centre) + f2;
        store(dx, at, at + N, piece);
    }
};

extern "C" __global__ void dx(const real* g, const real* x, const double* mean, const real* factors, real* dx, long long samples,
                              int channels, int size) {
    each_piece(samples, channels, size, Dx{g, x, mean, factors, dx, channels});
}

// ---- Second derivative

// Σ v, Σ g, Σ v (x - mean), Σ g (x - mean), Σ v g.
struct FiveSumTerms {
    const real *v, *g, *x;
    const double* mean;
    real centre = 0;
    __device__ void begin(int c) { centre = real(mean[c]); }
    template <int N> __device__ void add(Total<real>* totals, i64 at) const {
        const Pack<real, N> of_v = loaded<N>(v, at), of_g = loaded<N>(g, at), of_x = loaded<N>(x, at);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const real a = of_v.element[j], b = of_g.element[j], d = of_x.element[j] - centre;
            totals[0].add(a);
            totals[1].add(b);
            totals[2].add_product(a, d);
            totals[3].add_product(b, d);
            totals[4].add_product(a, b);
        }
    }
};

// Per channel: ddg = [0] v + [1] (x - mean) + [2];  ddx = [3] v + [4] g + [5] (x - mean) + [6].
struct DxDxFactors {
    const real *v_gamma, *v_beta;
    const double *mean, *var;
    const real* gamma;
    double eps;
    real *factors, *ddgamma;
    int channels;
    double n;
    __device__ void operator()(int c, const double* sums) const {
        const double s = 1 / sqrt(var[c] + eps), of_gamma = given(v_gamma, c, 0), of_beta = given(v_beta, c, 0);
        const double mean_v = sums[0] / n, mean_g = sums[1] / n, rest = rest_of(mean[c]);
        const double a = (sums[2] - rest * sums[0]) * s / n, b = (sums[3] - rest * sums[1]) * s / n;
        const double q = sums[4] - n * (mean_v * mean_g + a * b);
        const double scale = given(gamma, c, 1) * s, bend = scale * s, turn = of_gamma * s;
        const double ddg_x = s * (of_gamma - scale * a), ddx_x = s * (bend * (2 * a * b - q / n) - turn * b);
        ddgamma[c] = real(s * q);
        factors[c] = real(scale);
        factors[channels + c] = real(ddg_x);
        factors[2 * channels + c] = real(of_beta - scale * mean_v - ddg_x * rest);
        factors[3 * channels + c] = real(-bend * b);
        factors[4 * channels + c] = real(turn - bend * a);
        factors[5 * channels + c] = real(ddx_x);
        factors[6 * channels + c] = real(bend * (b * mean_v + a * mean_g) - turn * mean_g - ddx_x * rest);
    }
};

extern "C" __global__ void five_sums(const real* v, const real* v_gamma, const real* v_beta, const real* g, const real* x,
                                     const double* mean, const double* var, const real* gamma, double eps, double* partials,
                                     real* factors, real* ddgamma, long long samples, int channels, int size, bool columns,
                                     int parts) {
    const Shape shape{samples, channels, size, columns, parts};
    const DxDxFactors finish{v_gamma, v_beta, mean, var, gamma, eps, factors, ddgamma, channels, shape.count()};
    sum_channels<5>(shape, FiveSumTerms{v, g, x, mean}, partials, finish);
}

extern "C" __global__ void dx_dx_factors(const real* v, const real* v_gamma, const real* v_beta, const real* g, const real* x,
                                         const double* mean, const double* var, const real* gamma, double eps, double* partials,
                                         real* factors, real* ddgamma, long long samples, int channels, int size, bool columns,
                                         int parts) {
    const Shape shape{samples, channels, size, columns, parts};
    merge<5>(shape, partials, DxDxFactors{v_gamma, v_beta, mean, var, gamma, eps, factors, ddgamma, channels, shape.count()});
}

struct DxDx {
    const real *v, *g, *x;
    const double* mean;
    const real* factors;
    real *ddg, *ddx;
    int channels;
    template <int N> __device__ void write(int c, i64 at) const {
        const real* f = factors + c;
        const real centre = real(mean[c]), v_g = f[0], x_g = f[channels], one_g = f[2 * channels];
        const real v_x = f[3 * channels], g_x = f[4 * channels], x_x = f[5 * channels], one_x = f[6 * channels];
        const Pack<real, N> of_v = loaded<N>(v, at), of_g = loaded<N>(g, at), of_x = loaded<N>(x, at);
        Pack<real, N> first, second;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const real a = of_v.element[j], b = of_g.element[j], d = of_x.element[j] - centre;
            first.element[j] = v_g * a + x_g * d + one_g;
            second.element[j] = v_x * a + g_x * b + x_x * d + one_x;
        }
        store(ddg, at, at + N, first);
        store(ddx, at, at + N, second);
    }
};

extern "C" __global__ void dx_dx(const real* v, const real* g, const real* x, const double* mean, const real* factors, real* ddg,
                                 real* ddx, long long samples, int channels, int size) {
    each_piece(samples, channels, size, DxDx{v, g, x, mean, factors, ddg, ddx, channels});
}

// ---- running += (batch - running) momentum

extern "C" __global__ void running_update(real* running_mean, real* running_var, const double* mean, const double* var,
                                          real momentum, real unbiased, int channels) {
    for (i64 c = first(); c < channels; c += stride()) {
        running_mean[c] += (real(mean[c]) - running_mean[c]) * momentum;
        running_var[c] += (real(var[c]) * unbiased - running_var[c]) * momentum;
    }
}
