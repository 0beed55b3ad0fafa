// Sums, products, truth, extremes, logsumexp, and the winner along an axis, in the passes of passes.py: x (outer, size, inner) is reduced
// to (outer, parts, inner), each result being that of a team of threads over a part of a line. More than one part, and more
// than one run of reduced axes, take more passes. What stands between them is double, or for integers long long, for truth bool.

#include "common.cuh"

struct Parts {
    i64 outer, size, inner, parts;
    __device__ i64 items() const { return outer * parts * inner; }
    __device__ i64 first_of(i64 item) const { return item / inner % parts * ((size + parts - 1) / parts); }
    __device__ Line line(i64 item) const {
        const i64 part = (size + parts - 1) / parts, from = first_of(item), row = item / inner / parts * size + from;
        return {row * inner + item % inner, inner, item < items() ? max(i64(0), min(part, size - from)) : 0};
    }
};

// ---- sum, prod, any, all, logsumexp

struct Add {
    template <class T> __device__ static double of(const Team& team, const Line& line, const T* x) {
        Total<T> total;
#pragma unroll 4
        for (i64 k = team.rank(); k < line.size; k += team.members()) total.add(x[line.at(k)]);
        return team.reduce(total.value(), Sum());
    }
};

struct Times {
    template <class T> __device__ T operator()(T a, T b) const { return a * b; }
};

// In the type Wide: double, or u64, modulo 2^64. `none` is the result of no elements.
template <class Wide, class Combine, int none> struct Combined {
    template <class T> __device__ static Wide of(const Team& team, const Line& line, const T* x) {
        Wide total = none;
#pragma unroll 4
        for (i64 k = team.rank(); k < line.size; k += team.members()) total = Combine()(total, Wide(x[line.at(k)]));
        return team.reduce(total, Combine());
    }
};

// Is one element zero, or not zero?
template <bool zero> struct Some {
    template <class T> __device__ static bool of(const Team& team, const Line& line, const T* x) {
        int found = 0;
        for (i64 k = team.rank(); k < line.size; k += team.members()) found |= (x[line.at(k)] == 0) == zero;
        return team.reduce(found, Largest()) != 0;
    }
};
struct All {
    template <class T> __device__ static bool of(const Team& team, const Line& line, const T* x) {
        return !Some<true>::of(team, line, x);
    }
};

// ---- amax, amin: NaN if there is one; of zeros the positive one is above

__device__ bool negative_zero(float x) { return x == 0 && 1 / x < 0; }
__device__ bool negative_zero(double x) { return x == 0 && 1 / x < 0; }
__device__ bool negative_zero(i64) { return false; }
__device__ bool negative_zero(int) { return false; }

struct Upper {
    template <class T> __device__ T operator()(T a, T b) const {
        return a != a || a > b || (a == b && negative_zero(b)) ? a : b;
    }
};
struct Lower {
    template <class T> __device__ T operator()(T a, T b) const {
        return a != a || a < b || (a == b && negative_zero(a)) ? a : b;
    }
};

template <class Combine> struct Extreme {
    template <class T> __device__ static auto of(const Team& team, const Line& line, const T* x) {
        using Held = decltype(*x + 0);  // of bool int, which can be exchanged
        Held best = line.size ? Held(x[line.at(0)]) : Held(0);
        for (i64 k = team.rank(); k < line.size; k += team.members()) best = Combine()(best, Held(x[line.at(k)]));
        return team.reduce(best, Combine());
    }
};

// top + log Σ exp(x - top), where an infinite top shifts nothing: the sum is then 0, inf or NaN by itself.
struct LogAddExp {
    template <class T> __device__ static double of(const Team& team, const Line& line, const T* x) {
        T top = -infinity();
        for (i64 k = team.rank(); k < line.size; k += team.members()) top = Largest()(x[line.at(k)], top);
        top = team.reduce(top, Largest());
        const T shift = top - top == 0 ? top : T(0);
        Total<T> total;
        for (i64 k = team.rank(); k < line.size; k += team.members()) total.add(exp(x[line.at(k)] - shift));
        return shift + log(team.reduce(total.value(), Sum()));
    }
};

#define FOLD(name, Operation, In, Out) \
    extern "C" __global__ void name(const In* x, Out* y, long long outer, long long size, long long inner, long long parts, \
                                    int lanes, bool one_warp) { \
        const Team team{lanes, one_warp}; \
        const Line line = Parts{outer, size, inner, parts}.line(team.item()); \
        const auto total = Operation::of(team, line, x); \
        if (team.rank() == 0 && line.size) y[team.item()] = static_cast<Out>(total); \
    }

using AddIntegers = Combined<u64, Sum, 0>;
using Multiply = Combined<double, Times, 1>;
using MultiplyIntegers = Combined<u64, Times, 1>;
using Any = Some<false>;

FOLD(sum_real_real, Add, real, real)
FOLD(sum_real_double, Add, real, double)
FOLD(sum_double_double, Add, double, double)
FOLD(sum_double_real, Add, double, real)
FOLD(sum_bool_int64, AddIntegers, bool, long long)
FOLD(sum_int64_int64, AddIntegers, long long, long long)
FOLD(prod_real_real, Multiply, real, real)
FOLD(prod_real_double, Multiply, real, double)
FOLD(prod_double_real, Multiply, double, real)
FOLD(prod_bool_int64, MultiplyIntegers, bool, long long)
FOLD(prod_int64_int64, MultiplyIntegers, long long, long long)
FOLD(any_real_bool, Any, real, bool)
FOLD(any_int64_bool, Any, long long, bool)
FOLD(any_bool_bool, Any, bool, bool)
FOLD(all_real_bool, All, real, bool)
FOLD(all_int64_bool, All, long long, bool)
FOLD(all_bool_bool, All, bool, bool)
FOLD(amax_real_real, Extreme<Upper>, real, real)
FOLD(amax_real_double, Extreme<Upper>, real, double)
FOLD(amax_double_double, Extreme<Upper>, double, double)
FOLD(amax_double_real, Extreme<Upper>, double, real)
FOLD(amax_bool_bool, Extreme<Upper>, bool, bool)
FOLD(amax_int64_int64, Extreme<Upper>, long long, long long)
FOLD(amin_real_real, Extreme<Lower>, real, real)
FOLD(amin_real_double, Extreme<Lower>, real, double)
FOLD(amin_double_double, Extreme<Lower>, double, double)
FOLD(amin_double_real, Extreme<Lower>, double, real)
FOLD(amin_bool_bool, Extreme<Lower>, bool, bool)
FOLD(amin_int64_int64, Extreme<Lower>, long long, long long)
FOLD(logsumexp_real_real, LogAddExp, real, real)
FOLD(logsumexp_real_double, LogAddExp, real, double)
FOLD(logsumexp_double_double, LogAddExp, double, double)
FOLD(logsumexp_double_real, LogAddExp, double, real)

// ---- max, min

struct Above {
    template <class T> __device__ static bool beats(T a, T b) { return a > b || (a != a && b == b); }
};
struct Below {
    template <class T> __device__ static bool beats(T a, T b) { return a < b || (a != a && b == b); }
};

// Of two candidates the one whose value beats the other's, of equals the earlier. No place is -1.
template <class Order> struct Better {
    template <class T> __device__ Indexed<T> operator()(Indexed<T> a, Indexed<T> b) const {
        if (a.at < 0 || b.at < 0) return a.at < 0 ? b : a;
        const bool a_wins = Order::beats(a.value, b.value), b_wins = Order::beats(b.value, a.value);
        return a_wins || (!b_wins && a.at < b.at) ? a : b;
    }
};

// `places` are the places of x's elements along the axis where x has been reduced before.
#define WINNER(name, Order, T, Held) \
    extern "C" __global__ void name(const T* x, const long long* places, T* values, long long* indices, long long outer, \
                                    long long size, long long inner, long long parts, int lanes, bool one_warp) { \
        const Team team{lanes, one_warp}; \
        const Parts all{outer, size, inner, parts}; \
        const Line line = all.line(team.item()); \
        Indexed<Held> best{Held(0), -1}; \
        for (i64 k = team.rank(); k < line.size; k += team.members()) { \
            const i64 at = line.at(k), place = places ? places[at] : all.first_of(team.item()) + k; \
            best = Better<Order>()(best, Indexed<Held>{Held(x[at]), place}); \
        } \
        best = team.reduce(best, Better<Order>()); \
        if (team.rank() == 0 && line.size) values[team.item()] = static_cast<T>(best.value), indices[team.item()] = best.at; \
    }

WINNER(max_real, Above, real, real)
WINNER(max_bool, Above, bool, int)
WINNER(max_int64, Above, long long, i64)
WINNER(min_real, Below, real, real)
WINNER(min_bool, Below, bool, int)
WINNER(min_int64, Below, long long, i64)
