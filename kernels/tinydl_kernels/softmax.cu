// Softmax and cross-entropy on the GPU: the twin of softmax.py, which has the formulas. A team of threads has a line and reads
// it two or three times, each time but the first from a cache.

#include "common.cuh"

struct Softmax {  // exp(x - top) / total
    real top;
    double total;
};

__device__ Softmax softmax_of(const Team& team, const Line& line, const real* x) {
    real top = -infinity();
    for (i64 k = team.rank(); k < line.size; k += team.members()) top = Largest()(x[line.at(k)], top);
    top = team.reduce(top, Largest());
    Total<real> total;
    for (i64 k = team.rank(); k < line.size; k += team.members()) total.add(exp(x[line.at(k)] - top));
    return {top, team.reduce(total.value(), Sum())};
}

extern "C" __global__ void softmax(const real* x, real* y, long long lines, long long size, long long inner, int lanes,
                                   bool one_warp) {
    const Team team{lanes, one_warp};
    const Line line = line_of(team.item(), lines, size, inner);
    const Softmax softmax = softmax_of(team, line, x);
    const real scale = real(1 / softmax.total);
    for (i64 k = team.rank(); k < line.size; k += team.members()) y[line.at(k)] = exp(x[line.at(k)] - softmax.top) * scale;
}

extern "C" __global__ void log_softmax(const real* x, real* y, long long lines, long long size, long long inner, int lanes,
                                       bool one_warp) {
    const Team team{lanes, one_warp};
    const Line line = line_of(team.item(), lines, size, inner);
    const Softmax softmax = softmax_of(team, line, x);
    const real log_total = real(log(softmax.total));
    for (i64 k = team.rank(); k < line.size; k += team.members()) y[line.at(k)] = x[line.at(k)] - softmax.top - log_total;
}

extern "C" __global__ void softmax_dx(const real* g, const real* y, real* dx, long long lines, long long size, long long inner,
                                      int lanes, bool one_warp) {
    const Team team{lanes, one_warp};
    const Line line = line_of(team.item(), lines, size, inner);
    Total<real> total;
    for (i64 k = team.rank(); k < line.size; k += team.members()) total.add_product(g[line.at(k)], y[line.at(k)]);
    const real mean = real(team.reduce(total.value(), Sum()));
    for (i64 k = team.rank(); k < line.size; k += team.members()) dx[line.at(k)] = y[line.at(k)] * (g[line.at(k)] - mean);
}

extern "C" __global__ void log_softmax_dx(const real* g, const real* y, real* dx, long long lines, long long size,
                                          long long inner, int lanes, bool one_warp) {
    const Team team{lanes, one_warp};
    const Line line = line_of(team.item(), lines, size, inner);
    Total<real> total;
    for (i64 k = team.rank(); k < line.size; k += team.members()) total.add(g[line.at(k)]);
    const real sum = real(team.reduce(total.value(), Sum()));
    for (i64 k = team.rank(); k < line.size; k += team.members()) dx[line.at(k)] = g[line.at(k)] - exp(y[line.at(k)]) * sum;
}

// ---- Cross-entropy

// The smoothed targets t' of one row, from its class index or its row of soft targets.
struct Target {
    const real* soft;
    long long index;
    real rest, share;  // 1 - ε, ε / K
    __device__ real weight(i64 k) const { return rest * (soft ? soft[k] : real(index == k)) + share; }
};

// Whether the row has a target at all. If not, `otherwise` is what stands in all its results.
__device__ bool has_target(const Target& target, i64 classes, long long ignored, real& otherwise) {
    otherwise = target.index == ignored ? real(0) : real(not_a_number());
    return target.soft || (target.index != ignored && target.index >= 0 && target.index < classes);
}

__device__ Target target_of(i64 row, i64 rows, i64 classes, const long long* indices, const real* soft, real smoothing) {
    const bool inside = row < rows;
    return {soft ? soft + (inside ? row : 0) * classes : nullptr, soft || !inside ? 0 : indices[row], 1 - smoothing,
            smoothing / real(classes)};
}

extern "C" __global__ void cross_entropy(const real* x, const long long* indices, const real* soft, real smoothing,
                                         long long ignored, real* losses, long long rows, long long classes, int lanes,
                                         bool one_warp) {
    const Team team{lanes, one_warp};
    const Line line = line_of(team.item(), rows, classes, 1);
    const Target target = target_of(team.item(), rows, classes, indices, soft, smoothing);
    const Softmax softmax = softmax_of(team, line, x);
    const real log_total = real(log(softmax.total));
    Total<real> loss;
    for (i64 k = team.rank(); k < line.size; k += team.members()) {
        const real weight = target.weight(k);
        if (weight != 0) loss.add_product(weight, log_total - (x[line.at(k)] - softmax.top));
    }
    const double sum = team.reduce(loss.value(), Sum());
    real otherwise;
    const bool counts = has_target(target, classes, ignored, otherwise);
    if (team.rank() == 0 && line.size) losses[team.item()] = counts ? real(sum) : otherwise;
}

extern "C" __global__ void cross_entropy_dx(const real* g, const real* x, const long long* indices, const real* soft,
                                            real smoothing, long long ignored, real* dx, long long rows, long long classes,
                                            int lanes, bool one_warp) {
    const Team team{lanes, one_warp};
    const Line line = line_of(team.item(), rows, classes, 1);
    const Target target = target_of(team.item(), rows, classes, indices, soft, smoothing);
    const Softmax softmax = softmax_of(team, line, x);
    Total<real> weights;
    for (i64 k = team.rank(); k < line.size; k += team.members()) weights.add(target.weight(k));
    const real scale = real(team.reduce(weights.value(), Sum()) / softmax.total);
    real otherwise;
    const bool counts = has_target(target, classes, ignored, otherwise);
    for (i64 k = team.rank(); k < line.size; k += team.members()) {
        const real slope = exp(x[line.at(k)] - softmax.top) * scale - target.weight(k);
        dx[line.at(k)] = counts ? g[team.item()] * slope : otherwise;
    }
}

// How many of n class indices are not `ignored`: one team counts.
extern "C" __global__ void counted(const long long* target, long long ignored, real* count, long long n, int lanes,
                                   bool one_warp) {
    const Team team{lanes, one_warp};
    const Line line = line_of(team.item(), 1, n, 1);
    i64 total = 0;
    for (i64 k = team.rank(); k < line.size; k += team.members()) total += target[line.at(k)] != ignored;
    total = team.reduce(total, Sum());
    if (team.item() == 0 && team.rank() == 0) *count = real(total);
}
