// Recurrent layers on the GPU: __init__.py has the formulas. A block has one sequence and walks over its steps: its warps take
// the products of the rows of w with the state, then each thread the cells of some units. What the threads of a block have
// to tell each other goes through global memory, behind a barrier.

#include "common.cuh"

// A number and how fast it changes along a direction: the formulas below, on these, are their own derivatives.
struct Dual {
    real value, dot;
};
__device__ Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.dot + b.dot}; }
__device__ Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.dot - b.dot}; }
__device__ Dual operator*(Dual a, Dual b) { return {a.value * b.value, a.value * b.dot + a.dot * b.value}; }
__device__ real tanh_of(real x) { return tanh(x); }
__device__ Dual tanh_of(Dual x) {
    const real y = tanh(x.value);
    return {y, x.dot - y * y * x.dot};
}
__device__ real value_of(real x) { return x; }
__device__ real value_of(Dual x) { return x.value; }
__device__ real sigmoid(real x) { return 1 / (1 + exp(-x)); }

// What follows a function whose value at x is y, where x changes by `dot`.
__device__ Dual of_sigmoid(real y, real dot) { return {y, (y - y * y) * dot}; }
__device__ Dual of_tanh(real y, real dot) { return {y, dot - y * y * dot}; }

// A cell of one unit. gates: the numbers that are kept; open: these from p and u; opened: how they change along dp and du;
// next: the state behind a step; back: the gradients of p and u, and in the place of those of the state behind those of the
// state before.
template <bool RELU> struct Elman {
    static constexpr int ROWS = 1, KEPT = 1;
    static constexpr bool CELL = false;
    __device__ static void open(const real* p, const real* u, real* gates) {
        const real x = p[0] + u[0];
        gates[0] = RELU ? (x <= 0 ? real(0) : x) : tanh(x);
    }
    __device__ static void opened(const real* gates, const real* dp, const real* du, Dual* dual) {
        const real dot = dp[0] + du[0];
        if (RELU) dual[0] = {gates[0], gates[0] > 0 ? dot : real(0)};
        else dual[0] = of_tanh(gates[0], dot);
    }
    template <class T> __device__ static void next(const T* gates, T& h, T&) { h = gates[0]; }
    template <class T> __device__ static void back(const T* gates, T, T, T& gh, T&, T* gp, T* gu) {
        if (RELU) gp[0] = value_of(gates[0]) > 0 ? gh : T{};
        else gp[0] = gh - gates[0] * gates[0] * gh;
        gu[0] = gp[0];
        gh = T{};
    }
};

struct Lstm {  // i, f, g, o
    static constexpr int ROWS = 4, KEPT = 4;
    static constexpr bool CELL = true;
    __device__ static void open(const real* p, const real* u, real* gates) {
#pragma unroll
        for (int k = 0; k < 4; ++k) gates[k] = k == 2 ? tanh(p[k] + u[k]) : sigmoid(p[k] + u[k]);
    }
    __device__ static void opened(const real* gates, const real* dp, const real* du, Dual* dual) {
#pragma unroll
        for (int k = 0; k < 4; ++k)
            dual[k] = k == 2 ? of_tanh(gates[k], dp[k] + du[k]) : of_sigmoid(gates[k], dp[k] + du[k]);
    }
    template <class T> __device__ static void next(const T* gates, T& h, T& c) {
        c = gates[1] * c + gates[0] * gates[2];
        h = gates[3] * tanh_of(c);
    }
    template <class T> __device__ static void back(const T* gates, T, T c, T& gh, T& gc, T* gp, T* gu) {
        const T i = gates[0], f = gates[1], g = gates[2], o = gates[3], m = tanh_of(f * c + i * g);
        gc = gc + gh * (o - o * m * m);
        gp[0] = gc * g * (i - i * i);
        gp[1] = gc * c * (f - f * f);
        gp[2] = gc * (i - i * g * g);
        gp[3] = gh * m * (o - o * o);
#pragma unroll
        for (int k = 0; k < 4; ++k) gu[k] = gp[k];
        gc = gc * f;
        gh = T{};
    }
};

struct Gru {  // r, z, n, q
    static constexpr int ROWS = 3, KEPT = 4;
    static constexpr bool CELL = false;
    __device__ static void open(const real* p, const real* u, real* gates) {
        gates[0] = sigmoid(p[0] + u[0]);
        gates[1] = sigmoid(p[1] + u[1]);
        gates[3] = u[2];
        gates[2] = tanh(p[2] + gates[0] * u[2]);
    }
    __device__ static void opened(const real* gates, const real* dp, const real* du, Dual* dual) {
        dual[0] = of_sigmoid(gates[0], dp[0] + du[0]);
        dual[1] = of_sigmoid(gates[1], dp[1] + du[1]);
        dual[3] = {gates[3], du[2]};
        dual[2] = of_tanh(gates[2], dp[2] + dual[0].dot * gates[3] + gates[0] * du[2]);
    }
    template <class T> __device__ static void next(const T* gates, T& h, T&) { h = gates[2] + gates[1] * (h - gates[2]); }
    template <class T> __device__ static void back(const T* gates, T h, T, T& gh, T&, T* gp, T* gu) {
        const T r = gates[0], z = gates[1], n = gates[2], q = gates[3], of_n = gh - gh * z;
        gp[2] = of_n - of_n * n * n;
        gp[1] = gh * (h - n) * (z - z * z);
        gp[0] = gp[2] * q * (r - r * r);
        gu[0] = gp[0];
        gu[1] = gp[1];
        gu[2] = gp[2] * r;
        gh = gh * z;
    }
};

// Where the block's sequence lies.
struct Walk {
    int T, N, H;
    bool reverse;
    i64 length;
    __device__ Walk(int T, int N, int H, bool reverse, const i64* lengths)
        : T(T), N(N), H(H), reverse(reverse), length(lengths ? lengths[blockIdx.x] : T) {}
    __device__ int step(int s, bool backward) const { return reverse != backward ? T - 1 - s : s; }
    __device__ i64 row(int t) const { return i64(t) * N + blockIdx.x; }
    __device__ i64 unit(int k) const { return i64(blockIdx.x) * H + k; }          // of (N, H)
    __device__ i64 at(int t, int k, int j = 0, int parts = 1) const {              // of (T, N, parts · H)
        return (row(t) * parts + j) * H + k;
    }
    __device__ i64 second() const { return i64(T) * N * H; }  // where the cells begin, behind the states h
};

// u = first + W h of the block's sequence, a row for each warp at a time.
__device__ void product(const Walk& walk, int rows, const real* w, const real* h, const real* first, real* u) {
    const int lane = threadIdx.x % 32;
    for (int row = threadIdx.x / 32; row < rows * walk.H; row += blockDim.x / 32) {
        Total<real> total;
        for (int k = lane; k < walk.H; k += 32) total.add_product(w[i64(row) * walk.H + k], h[walk.unit(k)]);
        const double sum = warp_reduce(total.value(), Sum());
        if (lane == 0) u[i64(blockIdx.x) * rows * walk.H + row] = real(sum + (first ? double(first[row]) : 0));
    }
}

// What Wᵀ gives to unit k of the gradient of u in a step.
__device__ real pulled(const Walk& walk, int rows, const real* w, const real* of_u, int k) {
    Total<real> total;
    for (int row = 0; row < rows * walk.H; ++row) total.add_product(w[i64(row) * walk.H + k], of_u[row]);
    return real(total.value());
}

template <int M> __device__ void gather(real* numbers, const real* from, i64 at, i64 step) {
#pragma unroll
    for (int j = 0; j < M; ++j) numbers[j] = from ? from[at + j * step] : real(0);
}
template <int M> __device__ void scatter(const real* numbers, real* to, i64 at, i64 step) {
#pragma unroll
    for (int j = 0; j < M; ++j) to[at + j * step] = numbers[j];
}
template <int M> __device__ void scatter_dots(const Dual* numbers, real* to, i64 at, i64 step) {
#pragma unroll
    for (int j = 0; j < M; ++j) to[at + j * step] = numbers[j].dot;
}

template <class Cell>
__device__ void run(const Walk& walk, const real* p, const real* w, const real* b, const real* h0, const real* c0, real* y,
                    real* h, real* c, real* before, real* gates, real* u) {
    constexpr int R = Cell::ROWS, K = Cell::KEPT;
    for (int k = threadIdx.x; k < walk.H; k += blockDim.x) {
        h[walk.unit(k)] = h0 ? h0[walk.unit(k)] : real(0);
        if (Cell::CELL) c[walk.unit(k)] = c0 ? c0[walk.unit(k)] : real(0);
    }
    for (int s = 0; s < walk.T; ++s) {
        const int t = walk.step(s, false);
        __syncthreads();  // the state is there
        product(walk, R, w, h, b, u);
        __syncthreads();  // u is there, and nobody needs the state of before
        for (int k = threadIdx.x; k < walk.H; k += blockDim.x) {
            const i64 unit = walk.unit(k), at = walk.at(t, k);
            real state = h[unit], cell = Cell::CELL ? c[unit] : real(0), kept[K] = {};
            before[at] = state;
            if (Cell::CELL) before[walk.second() + at] = cell;
            if (t < walk.length) {
                real of_p[R], of_u[R];
                gather<R>(of_p, p, walk.at(t, k, 0, R), walk.H);
                gather<R>(of_u, u, i64(blockIdx.x) * R * walk.H + k, walk.H);
                Cell::open(of_p, of_u, kept);
                Cell::next(kept, state, cell);
                h[unit] = state;
                if (Cell::CELL) c[unit] = cell;
            }
            scatter<K>(kept, gates, walk.at(t, k, 0, K), walk.H);
            y[at] = t < walk.length ? state : real(0);
        }
    }
}

template <class Cell>
__device__ void run_dot(const Walk& walk, const real* v, const real* push, const real* w, const real* v_h, const real* v_c,
                        const real* before, const real* gates, real* ddgy, real* dh, real* dc, real* dbefore, real* dgates,
                        real* u) {
    constexpr int R = Cell::ROWS, K = Cell::KEPT;
    for (int k = threadIdx.x; k < walk.H; k += blockDim.x) {
        dh[walk.unit(k)] = v_h ? v_h[walk.unit(k)] : real(0);
        if (Cell::CELL) dc[walk.unit(k)] = v_c ? v_c[walk.unit(k)] : real(0);
    }
    for (int s = 0; s < walk.T; ++s) {
        const int t = walk.step(s, false);
        __syncthreads();
        product(walk, R, w, dh, push ? push + walk.row(t) * R * walk.H : nullptr, u);
        __syncthreads();
        for (int k = threadIdx.x; k < walk.H; k += blockDim.x) {
            const i64 unit = walk.unit(k), at = walk.at(t, k), second = walk.second() + at;
            Dual kept[K] = {}, state{before[at], dh[unit]}, cell{};
            if (Cell::CELL) cell = {before[second], dc[unit]};
            dbefore[at] = state.dot;
            if (Cell::CELL) dbefore[second] = cell.dot;
            if (t < walk.length) {
                real along_p[R], along_u[R], values[K];
                gather<R>(along_p, v, walk.at(t, k, 0, R), walk.H);
                gather<R>(along_u, u, i64(blockIdx.x) * R * walk.H + k, walk.H);
                gather<K>(values, gates, walk.at(t, k, 0, K), walk.H);
                Cell::opened(values, along_p, along_u, kept);
                Cell::next(kept, state, cell);
                dh[unit] = state.dot;
                if (Cell::CELL) dc[unit] = cell.dot;
            }
            scatter_dots<K>(kept, dgates, walk.at(t, k, 0, K), walk.H);
            ddgy[at] = t < walk.length ? state.dot : real(0);
        }
    }
}

template <class Cell>
__device__ void back(const Walk& walk, const real* gy, const real* gh_end, const real* gc_end, const real* w,
                     const real* before, const real* gates, real* gp, real* gu, real* gh, real* gc, real* adjoint) {
    constexpr int R = Cell::ROWS, K = Cell::KEPT;
    for (int k = threadIdx.x; k < walk.H; k += blockDim.x) {
        gh[walk.unit(k)] = gh_end ? gh_end[walk.unit(k)] : real(0);
        if (Cell::CELL) gc[walk.unit(k)] = gc_end ? gc_end[walk.unit(k)] : real(0);
    }
    for (int s = 0; s < walk.T; ++s) {
        const int t = walk.step(s, true);
        const bool alive = t < walk.length;
        for (int k = threadIdx.x; k < walk.H; k += blockDim.x) {
            const i64 unit = walk.unit(k), at = walk.at(t, k), second = walk.second() + at;
            real of_h = 0, of_c = 0, of_p[R] = {}, of_u[R] = {};
            if (alive) {
                of_h = gh[unit] + (gy ? gy[at] : real(0));
                if (Cell::CELL) of_c = gc[unit];
            }
            adjoint[at] = of_h;
            if (Cell::CELL) adjoint[second] = of_c;
            if (alive) {
                real kept[K];
                gather<K>(kept, gates, walk.at(t, k, 0, K), walk.H);
                Cell::back(kept, before[at], Cell::CELL ? before[second] : real(0), of_h, of_c, of_p, of_u);
                gh[unit] = of_h;
                if (Cell::CELL) gc[unit] = of_c;
            }
            scatter<R>(of_p, gp, walk.at(t, k, 0, R), walk.H);
            if (gu != gp) scatter<R>(of_u, gu, walk.at(t, k, 0, R), walk.H);
        }
        __syncthreads();  // the gradient of u is there
        for (int k = threadIdx.x; k < walk.H && alive; k += blockDim.x)
            gh[walk.unit(k)] += pulled(walk, R, w, gu + walk.row(t) * R * walk.H, k);
    }
}

template <class Cell>
__device__ void back_dot(const Walk& walk, const real* pull, const real* w, const real* before, const real* dbefore,
                         const real* gates, const real* dgates, const real* adjoint, real* dgp, real* dgu, real* dgh,
                         real* dgc) {
    constexpr int R = Cell::ROWS, K = Cell::KEPT;
    for (int k = threadIdx.x; k < walk.H; k += blockDim.x) {
        dgh[walk.unit(k)] = 0;
        if (Cell::CELL) dgc[walk.unit(k)] = 0;
    }
    for (int s = 0; s < walk.T; ++s) {
        const int t = walk.step(s, true);
        const bool alive = t < walk.length;
        for (int k = threadIdx.x; k < walk.H; k += blockDim.x) {
            const i64 unit = walk.unit(k), at = walk.at(t, k), second = walk.second() + at;
            Dual of_p[R] = {}, of_u[R] = {};
            if (alive) {
                real values[K], dots[K];
                gather<K>(values, gates, walk.at(t, k, 0, K), walk.H);
                gather<K>(dots, dgates, walk.at(t, k, 0, K), walk.H);
                Dual kept[K], h{before[at], dbefore[at]}, c{}, of_h{adjoint[at], dgh[unit]}, of_c{};
                for (int j = 0; j < K; ++j) kept[j] = {values[j], dots[j]};
                if (Cell::CELL) c = {before[second], dbefore[second]}, of_c = {adjoint[second], dgc[unit]};
                Cell::back(kept, h, c, of_h, of_c, of_p, of_u);
                dgh[unit] = of_h.dot + (pull ? pull[at] : real(0));
                if (Cell::CELL) dgc[unit] = of_c.dot;
            }
            scatter_dots<R>(of_p, dgp, walk.at(t, k, 0, R), walk.H);
            if (dgu != dgp) scatter_dots<R>(of_u, dgu, walk.at(t, k, 0, R), walk.H);
        }
        __syncthreads();
        for (int k = threadIdx.x; k < walk.H && alive; k += blockDim.x)
            dgh[walk.unit(k)] += pulled(walk, R, w, dgu + walk.row(t) * R * walk.H, k);
    }
}

// function<cell>(...) with the cell of that number. (NVRTC takes no lambda whose argument is `auto`.)
#define WITH_CELL(cell, function, ...)                    \
    if (cell == 0) function<Elman<false>>(__VA_ARGS__);   \
    else if (cell == 1) function<Elman<true>>(__VA_ARGS__); \
    else if (cell == 2) function<Lstm>(__VA_ARGS__);      \
    else function<Gru>(__VA_ARGS__)

extern "C" __global__ void layer(const real* p, const real* w, const real* b, const real* h0, const real* c0,
                                 const long long* lengths, real* y, real* h, real* c, real* before, real* gates, real* u, int T,
                                 int N, int H, int cell, bool reverse) {
    const Walk walk(T, N, H, reverse, lengths);
    WITH_CELL(cell, run, walk, p, w, b, h0, c0, y, h, c, before, gates, u);
}

extern "C" __global__ void layer_dx(const real* gy, const real* gh_end, const real* gc_end, const real* w,
                                    const long long* lengths, const real* before, const real* gates, real* gp, real* gu,
                                    real* gh, real* gc, real* adjoint, int T, int N, int H, int cell, bool reverse) {
    const Walk walk(T, N, H, reverse, lengths);
    WITH_CELL(cell, back, walk, gy, gh_end, gc_end, w, before, gates, gp, gu, gh, gc, adjoint);
}

extern "C" __global__ void layer_dot(const real* v, const real* push, const real* w, const real* v_h, const real* v_c,
                                     const long long* lengths, const real* before, const real* gates, real* ddgy, real* dh,
                                     real* dc, real* dbefore, real* dgates, real* u, int T, int N, int H, int cell,
                                     bool reverse) {
    const Walk walk(T, N, H, reverse, lengths);
    WITH_CELL(cell, run_dot, walk, v, push, w, v_h, v_c, before, gates, ddgy, dh, dc, dbefore, dgates, u);
}

extern "C" __global__ void layer_dx_dot(const real* pull, const real* w, const long long* lengths, const real* before,
                                        const real* dbefore, const real* gates, const real* dgates, const real* adjoint,
                                        real* dgp, real* dgu, real* dgh, real* dgc, int T, int N, int H, int cell,
                                        bool reverse) {
    const Walk walk(T, N, H, reverse, lengths);
    WITH_CELL(cell, back_dot, walk, pull, w, before, dbefore, gates, dgates, adjoint, dgp, dgu, dgh, dgc);
}
