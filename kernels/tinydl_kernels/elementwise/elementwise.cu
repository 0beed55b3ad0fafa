// One line per operation: arithmetic and comparisons of __init__.py that integers have too. Those of floating numbers alone
// are in functions.cu, those of the bits of integers in bits.cu, those of truth values in masks.cu.

#include "elementwise.cuh"

constexpr int N = 16 / sizeof(number);

#define UNARY(name, result, ...)                                                                              \
    extern "C" __global__ void map_##name(const number* a, result* y, long long items, const Layout layout) { \
        map<N>(y, items, layout, [](number a) -> result { return __VA_ARGS__; }, a);                          \
    }
#define BINARY(name, result, ...)                                                                       \
    extern "C" __global__ void map_##name(const number* a, const number* b, result* y, long long items, \
                                          const Layout layout) {                                        \
        map<N>(y, items, layout, [](number a, number b) -> result { return __VA_ARGS__; }, a, b);       \
    }

template <class T> __device__ T largest(T a, T b) { return a != a || a > b ? a : b; }  // NaN wins, as in NumPy
template <class T> __device__ T smallest(T a, T b) { return a != a || a < b ? a : b; }
template <class T> __device__ T magnitude(T a) { return fabs(a); }
template <> __device__ i64 magnitude(i64 a) { return a < 0 ? -a : a; }
template <class T> __device__ T power(T a, T b) { return pow(a, b); }
template <> __device__ i64 power(i64 a, i64 b) {  // modulo 2^64; negative powers are 0 but of 1 and -1
    if (b < 0) return a == 1 ? 1 : a == -1 ? 1 - 2 * (b & 1) : 0;
    u64 result = 1;
    for (u64 square = a; b > 0; b /= 2, square *= square)
        if (b & 1) result *= square;
    return result;
}

// Quotient and remainder as NumPy has them; by an integer 0 both are 0.
template <class T> __device__ T rest(T a, T b) { return fmod(a, b); }
template <> __device__ i64 rest(i64 a, i64 b) { return b == 0 || b == -1 ? 0 : a % b; }
template <class T> __device__ T modulo(T a, T b) {
    const T r = rest(a, b);
    return r != 0 ? ((r < 0) != (b < 0) ? r + b : r) : T(copysign(T(0), b));
}
template <> __device__ i64 modulo(i64 a, i64 b) {
    const i64 r = rest(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
template <class T> __device__ T quotient(T a, T b) {
    if (b == 0) return a / b;
    const T r = rest(a, b), down = (a - r) / b - (r != 0 && (r < 0) != (b < 0)), whole = floor(down);
    return down == 0 ? T(copysign(T(0), a / b)) : down - whole > T(0.5) ? whole + 1 : whole;
}
template <> __device__ i64 quotient(i64 a, i64 b) {
    if (b == 0) return 0;
    if (b == -1) return i64(0 - u64(a));
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

UNARY(to_float32, float, float(a))
UNARY(to_float64, double, double(a))
UNARY(to_int64, long long, (long long)(a))
UNARY(to_bool, bool, a != 0)

UNARY(neg, number, -a)
UNARY(abs, number, magnitude(a))
UNARY(sign, number, a > 0 ? 1 : a < 0 ? -1 : 0)
UNARY(relu, number, a <= 0 ? 0 : a)
UNARY(logical_not, bool, a == 0)

BINARY(add, number, a + b)
BINARY(sub, number, a - b)
BINARY(mul, number, a * b)
BINARY(pow, number, power(a, b))
BINARY(floor_divide, number, quotient(a, b))
BINARY(remainder, number, modulo(a, b))
BINARY(fmod, number, rest(a, b))
BINARY(maximum, number, largest(a, b))
BINARY(minimum, number, smallest(a, b))
BINARY(eq, bool, a == b)
BINARY(ne, bool, a != b)
BINARY(lt, bool, a < b)
BINARY(le, bool, a <= b)
BINARY(gt, bool, a > b)
BINARY(ge, bool, a >= b)
BINARY(logical_and, bool, a != 0 && b != 0)
BINARY(logical_or, bool, a != 0 || b != 0)
BINARY(logical_xor, bool, (a != 0) != (b != 0))
BINARY(gate, number, b <= 0 ? 0 : a)

extern "C" __global__ void map_where(const bool* a, const number* b, const number* c, number* y, long long items,
                                     const Layout layout) {
    map<N>(y, items, layout, [](bool a, number b, number c) { return a ? b : c; }, a, b, c);
}

extern "C" __global__ void map_clip(const number* a, const number* b, const number* c, number* y, long long items,
                                    const Layout layout) {
    map<N>(y, items, layout, [](number a, number b, number c) { return smallest(largest(a, b), c); }, a, b, c);
}

extern "C" __global__ void map_between(const number* a, const number* b, const number* c, const number* d, number* y,
                                       long long items, const Layout layout) {
    const auto f = [](number a, number b, number c, number d) { return c <= b && b <= d ? a : number(0); };
    map<N>(y, items, layout, f, a, b, c, d);
}
