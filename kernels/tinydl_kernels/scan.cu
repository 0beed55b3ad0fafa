// Running sums, products and linear recurrences on the GPU: the twin of scan.py. All are scans: prefixes under an associative
// operation, here of states in double (long long for integers). A team of threads goes along a line in rounds:
//
//     member   0        1        2            each combines RUN neighbours,
//     line     x x x x  x x x x  x x x x  ... what stands before them comes from the members before it,
//              ------------ round ----------  and what stands before the round from the round before.

#include "common.cuh"

constexpr int RUN = 4;

// ---- States. a.then(b) is a followed by b; a state that nothing precedes is State::none().

// Zero stays zero unless something is not finite: not even where a product of what follows overflows.
__device__ double times(double before, double factor, bool finite) { return before == 0 && finite ? 0 : factor * before; }

struct Added {
    double total;
    __device__ static Added none() { return {0}; }
    __device__ Added then(Added b) const { return {total + b.total}; }
    __device__ Added shifted(int by) const { return {__shfl_up_sync(~0u, total, by)}; }
    __device__ double result() const { return total; }
};
struct Multiplied {
    double total;
    int finite;  // are all factors?
    __device__ static Multiplied none() { return {1, true}; }
    __device__ Multiplied then(Multiplied b) const { return {times(total, b.total, b.finite), finite && b.finite}; }
    __device__ Multiplied shifted(int by) const {
        return {__shfl_up_sync(~0u, total, by), __shfl_up_sync(~0u, finite, by)};
    }
    __device__ double result() const { return total; }
};
struct AddedIntegers {  // modulo 2^64
    u64 total;
    __device__ static AddedIntegers none() { return {0}; }
    __device__ AddedIntegers then(AddedIntegers b) const { return {total + b.total}; }
    __device__ AddedIntegers shifted(int by) const { return {__shfl_up_sync(~0u, total, by)}; }
    __device__ i64 result() const { return i64(total); }
};
struct MultipliedIntegers {
    u64 total;
    __device__ static MultipliedIntegers none() { return {1}; }
    __device__ MultipliedIntegers then(MultipliedIntegers b) const { return {total * b.total}; }
    __device__ MultipliedIntegers shifted(int by) const { return {__shfl_up_sync(~0u, total, by)}; }
    __device__ i64 result() const { return i64(total); }
};
struct Affine {  // y -> a y + b, from y = 0
    double a, b;
    int finite;  // are all a's?
    __device__ static Affine none() { return {1, 0, true}; }
    __device__ Affine then(Affine next) const {
        return {a * next.a, times(b, next.a, next.finite) + next.b, finite && next.finite};
    }
    __device__ Affine shifted(int by) const {
        return {__shfl_up_sync(~0u, a, by), __shfl_up_sync(~0u, b, by), __shfl_up_sync(~0u, finite, by)};
    }
    __device__ double result() const { return b; }
};

__device__ bool is_finite(double x) { return x - x == 0; }

// What the members before this one have, and in `all` what they have together.
template <class State> __device__ State before(const Team& team, State mine, State& all) {
    const int place = team.lane() % team.lanes, last = team.lane() | (team.lanes - 1);
    for (int by = 1; by < team.lanes; by *= 2) {
        const State other = mine.shifted(by);
        if (place >= by) mine = other.then(mine);
    }
    State result = mine.shifted(1);
    if (place == 0) result = State::none();
    __shared__ State scratch[8][32];
    scratch[team.warp()][team.lane()] = mine;
    if (team.one_warp) {
        __syncwarp();
        all = scratch[team.warp()][last];
        __syncwarp();
        return result;
    }
    __syncthreads();
    all = State::none();
    for (int warp = 0; warp < 8; ++warp) {
        if (warp == team.warp()) result = all.then(result);
        all = all.then(scratch[warp][last]);
    }
    __syncthreads();
    return result;
}

// y[k] = the states of x[0] ... x[k], each made by state_at(k, place in the array); from the end if `reverse`.
template <class Out, class StateAt>
__device__ void scan(const Team& team, i64 lines, i64 size, i64 inner, bool reverse, Out* y, StateAt state_at) {
    using State = decltype(state_at(0, 0));
    Line line = line_of(team.item(), lines, size, inner);
    if (reverse) line.base += (size - 1) * inner, line.step = -inner;
    State carry = State::none();
    for (i64 start = 0; start < size; start += i64(team.members()) * RUN) {
        const i64 mine = start + i64(team.rank()) * RUN;
        State states[RUN], total = State::none(), all;
#pragma unroll
        for (int j = 0; j < RUN; ++j) {
            states[j] = mine + j < line.size ? state_at(mine + j, line.at(mine + j)) : State::none();
            total = total.then(states[j]);
        }
        State state = carry.then(before(team, total, all));
        carry = carry.then(all);
#pragma unroll
        for (int j = 0; j < RUN; ++j) {
            state = state.then(states[j]);
            if (mine + j < line.size) y[line.at(mine + j)] = Out(state.result());
        }
    }
}

extern "C" __global__ void cumsum(const real* x, real* y, long long lines, long long size, long long inner, bool reverse,
                                  int lanes, bool one_warp) {
    scan(Team{lanes, one_warp}, lines, size, inner, reverse, y, [=](i64, i64 at) { return Added{double(x[at])}; });
}

extern "C" __global__ void cumprod(const real* x, real* y, long long lines, long long size, long long inner, bool reverse,
                                   int lanes, bool one_warp) {
    scan(Team{lanes, one_warp}, lines, size, inner, reverse, y,
         [=](i64, i64 at) { return Multiplied{double(x[at]), is_finite(x[at])}; });
}

extern "C" __global__ void cumsum_int64(const long long* x, long long* y, long long lines, long long size, long long inner,
                                        bool reverse, int lanes, bool one_warp) {
    scan(Team{lanes, one_warp}, lines, size, inner, reverse, y, [=](i64, i64 at) { return AddedIntegers{u64(x[at])}; });
}

extern "C" __global__ void cumprod_int64(const long long* x, long long* y, long long lines, long long size, long long inner,
                                         bool reverse, int lanes, bool one_warp) {
    scan(Team{lanes, one_warp}, lines, size, inner, reverse, y, [=](i64, i64 at) { return MultipliedIntegers{u64(x[at])}; });
}

// y[k] = a[k] y[k - 1] + b[k]; a[0] is not used.
extern "C" __global__ void recurrence(const real* a, const real* b, real* y, long long lines, long long size, long long inner,
                                      bool reverse, int lanes, bool one_warp) {
    scan(Team{lanes, one_warp}, lines, size, inner, reverse, y, [=](i64 k, i64 at) {
        return k == 0 ? Affine{0, double(b[at]), true} : Affine{double(a[at]), double(b[at]), is_finite(a[at])};
    });
}
