// Philox4x32-10 on the GPU: the twin of random.py, which explains the numbers. One thread makes one block of 128 bits.

#include "common.cuh"

struct Block {  // four random words
    u32 word[4];
    __device__ u64 pair(int i) const { return u64(word[2 * i + 1]) << 32 | word[2 * i]; }
};

__device__ Block philox(const u64* key, u64 counter) {
    u32 k0 = u32(key[0]), k1 = u32(key[0] >> 32);
    u32 c0 = u32(counter), c1 = u32(counter >> 32), c2 = u32(key[1]), c3 = u32(key[1] >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u64 a = u64(MULTIPLIERS[0]) * c0, b = u64(MULTIPLIERS[1]) * c2;
        c0 = u32(b >> 32) ^ c1 ^ k0;
        c1 = u32(b);
        c2 = u32(a >> 32) ^ c3 ^ k1;
        c3 = u32(a);
        k0 += WEYL[0];
        k1 += WEYL[1];
    }
    return {{c0, c1, c2, c3}};
}

// Fills out[n]: values(block) makes the N elements of a block.
template <int N, class T, class Values> __device__ void fill(const u64* key, const u64* start, T* out, i64 n, Values values) {
    for (i64 i = first(); N * i < n; i += stride()) {
        const Pack<T, N> pack = values(philox(key, *start + i));
        store(out, N * i, n, pack);
    }
}

// c * x * y and a + c * x rounded at each step: an FMA in their place would give other bits than the CPU's.
__device__ double product(double c, double x, double y) { return __dmul_rn(__dmul_rn(c, x), y); }
__device__ double multiply_add(double a, double c, double x) { return __dadd_rn(a, __dmul_rn(c, x)); }

// log(u), u = 2^k m with m in [sqrt(1/2), sqrt(2)): k log 2 + 2 artanh(s), s = (m - 1) / (m + 1)
__device__ double logarithm(double u) {
    const i64 bits = __double_as_longlong(u), k = (bits - SQRT_HALF_BITS) >> 52;
    const double m = __longlong_as_double(bits - k * (i64(1) << 52));
    const double s = __dadd_rn(m, -1.0) / __dadd_rn(m, 1.0), s2 = __dmul_rn(s, s);
    double p = 1.0 / 23;
#pragma unroll
    for (int j = 21; j > 0; j -= 2) p = multiply_add(1.0 / j, p, s2);
    return __dadd_rn(__dmul_rn(LOG_2, double(k)), product(2.0, s, p));
}

// Two normal numbers from u in (0, 1] and an angle in turns of 2^-64.
__device__ double2 box_muller(double u, u64 turn) {
    const double radius = sqrt(__dmul_rn(-2.0, logarithm(u)));

    // The angle is q quarters of a turn and x, |x| <= pi/4
    const u64 q = (turn + (u64(1) << 61)) >> 62;
    const double x = double(i64(turn - (q << 62))) * TURN, x2 = __dmul_rn(x, x);
    double sine = 1.0, cosine = 1.0;
#pragma unroll
    for (int j = 16; j > 0; j -= 2) {
        sine = __dsub_rn(1.0, product(1.0 / (j * (j + 1)), x2, sine));
        cosine = __dsub_rn(1.0, product(1.0 / (j * (j - 1)), x2, cosine));
    }
    sine = __dmul_rn(sine, x);
    const double x_part = q & 1 ? sine : cosine, y_part = q & 1 ? cosine : sine;
    return make_double2(__dmul_rn(radius, (q + 1) & 2 ? -x_part : x_part), __dmul_rn(radius, q & 2 ? -y_part : y_part));
}

// exp(x), exp(700) or exp(-700) beyond: 2^k times Taylor's series to r^14, x = k log 2 + r
__device__ double exponential(double x) {
    x = min(max(x, -700.0), 700.0);
    const double k = floor(__dadd_rn(__dmul_rn(x, 0x1.71547652b82fep+0), 0.5));
    const double r = __dsub_rn(__dsub_rn(x, __dmul_rn(k, 0x1.62e42ff000000p-1)), __dmul_rn(k, -0x1.718432a1b0e26p-35));
    double p = 1.0;
#pragma unroll
    for (int j = 14; j > 0; --j) p = multiply_add(1.0, p, __dmul_rn(r, 1.0 / j));
    return __dmul_rn(p, __longlong_as_double((i64(k) + 1023) << 52));
}

// Candidates of rejection.py, which explains them: each sets `value` and says whether it counts.
struct Settings {
    double a, b, c, d, e;
};

__device__ double twice_and(double u, double v) { return __dadd_rn(__dmul_rn(2.0, logarithm(u)), logarithm(v)); }

struct Johnk {
    __device__ bool operator()(double u, double v, Settings s, double& value) const {
        const double x = logarithm(u) / s.a, y = logarithm(v) / s.b, top = max(x, y);
        const double part = exponential(__dsub_rn(x, top)), whole = __dadd_rn(part, exponential(__dsub_rn(y, top)));
        value = part / whole;
        return __dadd_rn(top, logarithm(whole)) <= 0.0;
    }
};

struct ChengBeta {
    __device__ bool operator()(double u, double v, Settings s, double& value) const {
        const double x = __dmul_rn(s.c, __dsub_rn(logarithm(u), logarithm(__dsub_rn(1.0, u))));
        const double w = __dmul_rn(s.a, exponential(x)), all = __dadd_rn(s.b, w), both = __dadd_rn(s.a, s.b);
        value = (s.e != 0.0 ? s.b : w) / all;
        const double left = __dsub_rn(__dmul_rn(s.d, x), 0x1.62e42fefa39efp+0);
        return __dadd_rn(left, __dmul_rn(both, logarithm(both / all))) >= twice_and(u, v);
    }
};

struct ChengGamma {
    __device__ bool operator()(double u, double v, Settings s, double& value) const {
        const double x = __dmul_rn(s.c, __dsub_rn(logarithm(u), logarithm(__dsub_rn(1.0, u))));
        value = __dmul_rn(s.a, exponential(x));
        return __dsub_rn(multiply_add(s.b, s.d, x), value) >= twice_and(u, v);
    }
};

struct AhrensDieter {
    __device__ bool operator()(double u, double v, Settings s, double& value) const {
        const double p = __dmul_rn(s.b, u);
        if (p <= 1.0) {
            value = exponential(__dmul_rn(logarithm(p), s.c));
            return logarithm(v) <= -value;
        }
        value = max(__dsub_rn(logarithm(s.a), logarithm(__dsub_rn(s.b, p))), 1.0);
        return logarithm(v) <= __dmul_rn(s.d, logarithm(value));
    }
};

// Fills out[n]: an element is the first of its ATTEMPTS candidates that counts, or the last.
template <class Attempt, class T>
__device__ void reject(const u64* key, const u64* start, T* out, i64 n, Settings settings) {
    for (i64 i = first(); i < n; i += stride()) {
        double value = 0.0;
        for (int t = 0; t < ATTEMPTS; ++t) {
            const Block block = philox(key, *start + u64(i) * ATTEMPTS + t);
            const double u = (double(block.pair(0) >> 12) + 0.5) * 0x1p-52, v = (double(block.pair(1) >> 12) + 0.5) * 0x1p-52;
            if (Attempt()(u, v, settings, value)) break;
        }
        out[i] = T(value);
    }
}

// y = x * scale where the element's word is below the threshold, else 0.
template <class T> __device__ void dropout(const T* x, const u64* key, const u64* start, T* y, i64 n, u64 threshold, T scale) {
    for (i64 i = first(); 4 * i < n; i += stride()) {
        const Block block = philox(key, *start + i);
        Pack<T, 4> pack;
        load(x, 4 * i, n, pack);
#pragma unroll
        for (int j = 0; j < 4; ++j) pack.element[j] = block.word[j] < threshold ? pack.element[j] * scale : T(0);
        store(y, 4 * i, n, pack);
    }
}

extern "C" __global__ void integers(const unsigned long long* key, const unsigned long long* start, unsigned int* out,
                                    long long n) {
    fill<4>(key, start, out, n, [](Block b) { return Pack<u32, 4>{{b.word[0], b.word[1], b.word[2], b.word[3]}}; });
}

extern "C" __global__ void randint(const unsigned long long* key, const unsigned long long* start, long long* out, long long n,
                                   long long low, unsigned long long span) {
    fill<2>(key, start, out, n, [=](Block b) {
        return Pack<i64, 2>{{i64(low + __umul64hi(b.pair(0), span)), i64(low + __umul64hi(b.pair(1), span))}};
    });
}

extern "C" __global__ void uniform_float32(const unsigned long long* key, const unsigned long long* start, float* out,
                                           long long n) {
    fill<4>(key, start, out, n, [](Block b) {
        Pack<float, 4> u;
#pragma unroll
        for (int j = 0; j < 4; ++j) u.element[j] = float(b.word[j] >> 8) * 0x1p-24f;
        return u;
    });
}

extern "C" __global__ void uniform_float64(const unsigned long long* key, const unsigned long long* start, double* out,
                                           long long n) {
    fill<2>(key, start, out, n,
            [](Block b) { return Pack<double, 2>{{double(b.pair(0) >> 11) * 0x1p-53, double(b.pair(1) >> 11) * 0x1p-53}}; });
}

extern "C" __global__ void normal_float32(const unsigned long long* key, const unsigned long long* start, float* out,
                                          long long n) {
    fill<4>(key, start, out, n, [](Block b) {
        const double2 p = box_muller((double(b.word[0]) + 1) * 0x1p-32, u64(b.word[1]) << 32);
        const double2 q = box_muller((double(b.word[2]) + 1) * 0x1p-32, u64(b.word[3]) << 32);
        return Pack<float, 4>{{float(p.x), float(p.y), float(q.x), float(q.y)}};
    });
}

extern "C" __global__ void normal_float64(const unsigned long long* key, const unsigned long long* start, double* out,
                                          long long n) {
    fill<2>(key, start, out, n, [](Block b) {
        const double2 p = box_muller((double(b.pair(0) >> 11) + 1) * 0x1p-53, b.pair(1));
        return Pack<double, 2>{{p.x, p.y}};
    });
}

#define REJECTION(name, Attempt, dtype, type)                                                                               \
    extern "C" __global__ void name##_##dtype(const unsigned long long* key, const unsigned long long* start, type* out,    \
                                              long long n, double a, double b, double c, double d, double e) {              \
        reject<Attempt>(key, start, out, n, {a, b, c, d, e});                                                               \
    }

REJECTION(johnk, Johnk, float32, float)
REJECTION(johnk, Johnk, float64, double)
REJECTION(cheng_beta, ChengBeta, float32, float)
REJECTION(cheng_beta, ChengBeta, float64, double)
REJECTION(cheng_gamma, ChengGamma, float32, float)
REJECTION(cheng_gamma, ChengGamma, float64, double)
REJECTION(ahrens_dieter, AhrensDieter, float32, float)
REJECTION(ahrens_dieter, AhrensDieter, float64, double)

extern "C" __global__ void bernoulli(const unsigned long long* key, const unsigned long long* start, bool* out, long long n,
                                     unsigned long long threshold) {
    fill<4>(key, start, out, n, [=](Block b) {
        return Pack<bool, 4>{{b.word[0] < threshold, b.word[1] < threshold, b.word[2] < threshold, b.word[3] < threshold}};
    });
}

extern "C" __global__ void dropout_float32(const float* x, const unsigned long long* key, const unsigned long long* start,
                                           float* y, long long n, unsigned long long threshold, float scale) {
    dropout(x, key, start, y, n, threshold, scale);
}

extern "C" __global__ void dropout_float64(const double* x, const unsigned long long* key, const unsigned long long* start,
                                           double* y, long long n, unsigned long long threshold, double scale) {
    dropout(x, key, start, y, n, threshold, scale);
}

// One thread: hands out `blocks` counters and moves on.
extern "C" __global__ void reserve(unsigned long long* counter, unsigned long long* before, unsigned long long blocks) {
    *before = *counter;
    *counter += blocks;
}
