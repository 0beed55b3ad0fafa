// Operations on the bits of integers, one per line, in 64 bits; launches.py cuts the results to the dtype wanted.

#include "elementwise.cuh"

constexpr int N = 16 / sizeof(i64);

#define UNARY(name, ...)                                                                                            \
    extern "C" __global__ void map_##name(const long long* a, long long* y, long long items, const Layout layout) { \
        map<N>(y, items, layout, [](i64 a) -> i64 { return __VA_ARGS__; }, a);                                      \
    }
#define BINARY(name, ...)                                                                                             \
    extern "C" __global__ void map_##name(const long long* a, const long long* b, long long* y, long long items,      \
                                          const Layout layout) {                                                      \
        map<N>(y, items, layout, [](i64 a, i64 b) -> i64 { return __VA_ARGS__; }, a, b);                              \
    }

// C++ leaves a shift by less than 0 or by all bits open.
UNARY(bitwise_not, ~a)
BINARY(bitwise_and, a & b)
BINARY(bitwise_or, a | b)
BINARY(bitwise_xor, a ^ b)
BINARY(left_shift, b < 0 || b > 63 ? 0 : i64(u64(a) << b))
BINARY(right_shift, a >> (b < 0 || b > 63 ? 63 : b))
