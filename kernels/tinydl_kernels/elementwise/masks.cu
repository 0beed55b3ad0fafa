// Operations on truth values, one per line; launches.py says which serve for arithmetic, as in NumPy.

#include "elementwise.cuh"

#define UNARY(name, result, ...)                                                                            \
    extern "C" __global__ void map_##name(const bool* a, result* y, long long items, const Layout layout) { \
        map<N>(y, items, layout, [](bool a) -> result { return __VA_ARGS__; }, a);                          \
    }
#define BINARY(name, ...)                                                                                                \
    extern "C" __global__ void map_##name(const bool* a, const bool* b, bool* y, long long items, const Layout layout) { \
        map<N>(y, items, layout, [](bool a, bool b) -> bool { return __VA_ARGS__; }, a, b);                              \
    }

UNARY(to_bool, bool, a)
UNARY(to_float32, float, a)
UNARY(to_float64, double, a)
UNARY(to_int64, long long, a)
UNARY(logical_not, bool, !a)
BINARY(logical_and, a && b)
BINARY(logical_or, a || b)
BINARY(logical_xor, a != b)
BINARY(eq, a == b)
BINARY(lt, a < b)
BINARY(le, a <= b)
BINARY(gt, a > b)
BINARY(ge, a >= b)

extern "C" __global__ void map_where(const bool* a, const bool* b, const bool* c, bool* y, long long items,
                                     const Layout layout) {
    map<N>(y, items, layout, [](bool a, bool b, bool c) { return a ? b : c; }, a, b, c);
}
