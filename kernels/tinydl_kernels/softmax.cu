// Softmax on the GPU: the twin of softmax.py, which has the formulas. A team of threads has a line and reads
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
