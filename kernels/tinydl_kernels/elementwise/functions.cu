// One line per operation: those rows of __init__.py and functions.py that are for floating numbers alone.

#include "elementwise.cuh"

constexpr int N = 16 / sizeof(real);

#define UNARY(name, result, ...)                                                                            \
    extern "C" __global__ void map_##name(const real* a, result* y, long long items, const Layout layout) { \
        map<N>(y, items, layout, [](real a) -> result { return __VA_ARGS__; }, a);                          \
    }
#define BINARY(name, ...)                                                                                                \
    extern "C" __global__ void map_##name(const real* a, const real* b, real* y, long long items, const Layout layout) { \
        map<N>(y, items, layout, [](real a, real b) -> real { return __VA_ARGS__; }, a, b);                              \
    }

__device__ real sigmoid(real a) {
    const real e = exp(-fabs(a));
    return (a >= 0 ? 1 : e) / (1 + e);
}

// ψ and its derivatives: functions.py has the formulas. In double: near the roots much cancels.
constexpr int TERMS = sizeof(BERNOULLI) / sizeof(double);

__device__ double digamma(double x) {
    if (x == 0) return copysign(1 / fabs(x), -x);
    if (x < 0 && x == floor(x)) return x - x + nan("");
    double shift = 0;
    if (x < 0) {
        shift = -3.141592653589793 * cospi(x - rint(x)) / sinpi(x - rint(x));
        x = 1 - x;
    }
    for (; x < 10; x += 1) shift -= 1 / x;
    const double square = 1 / (x * x);
    double series = 0, power = 1;
#pragma unroll
    for (int k = 0; k < TERMS; ++k) {
        power *= square;
        series -= BERNOULLI[k] / (2 * (k + 1)) * power;
    }
    return shift + log(x) - 0.5 / x + series;
}

__device__ double polygamma(int n, double x) {
    if (x <= 0 && x == floor(x)) return 1 / 0.0;
    double total = 0;
    for (; x < 10 + n; x += 1) total += pow(x, -(n + 1));
    double power = pow(x, -n), rising = 1;
    total += power / n + 0.5 * power / x;
#pragma unroll
    for (int k = 1; k <= TERMS; ++k) {
        rising *= k > 1 ? (n + 2 * k - 2) * double(n + 2 * k - 1) / ((2 * k - 1) * (2 * k)) : (n + 1) / 2.0;
        power /= x * x;
        total += BERNOULLI[k - 1] * rising * power;
    }
    for (int i = 2; i <= n; ++i) total *= i;
    return n % 2 ? total : -total;
}

UNARY(sqrt, real, sqrt(a))
UNARY(exp, real, exp(a))
UNARY(log, real, log(a))
UNARY(tanh, real, tanh(a))
UNARY(sigmoid, real, sigmoid(a))
UNARY(isfinite, bool, a - a == 0)
BINARY(div, a / b)
BINARY(weighted, a == 0 && b == b && b - b != 0 ? 0 : a * b)

UNARY(log1p, real, log1p(a))
UNARY(expm1, real, expm1(a))
UNARY(frac, real, a - trunc(a))
UNARY(exp2, real, exp2(a))
UNARY(log2, real, log2(a))
UNARY(log10, real, log10(a))
UNARY(rsqrt, real, rsqrt(a))
UNARY(reciprocal, real, 1 / a)
UNARY(sin, real, sin(a))
UNARY(cos, real, cos(a))
UNARY(tan, real, tan(a))
UNARY(asin, real, asin(a))
UNARY(acos, real, acos(a))
UNARY(atan, real, atan(a))
UNARY(sinh, real, sinh(a))
UNARY(cosh, real, cosh(a))
UNARY(asinh, real, asinh(a))
UNARY(acosh, real, acosh(a))
UNARY(atanh, real, atanh(a))
UNARY(logsigmoid, real, (a < 0 ? a : a != a ? a : 0) - log1p(exp(-fabs(a))))
UNARY(floor, real, floor(a))
UNARY(ceil, real, ceil(a))
UNARY(round, real, rint(a))
UNARY(trunc, real, trunc(a))
UNARY(isnan, bool, a != a)
UNARY(isinf, bool, a == a && a - a != 0)
UNARY(erf, real, erf(a))
UNARY(erfc, real, erfc(a))
UNARY(lgamma, real, lgamma(a))
UNARY(digamma, real, digamma(a))
BINARY(polygamma, polygamma(int(a), b))
BINARY(atan2, atan2(a, b))
BINARY(hypot, hypot(a, b))
