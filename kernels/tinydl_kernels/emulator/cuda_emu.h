// The CUDA C++ that a kernel sees when g++ compiles it for the CPU. __init__.py puts it before a .cu, which stays as it is.
//
// A CUDA thread is a fiber (fiber.h), a block runs on one OS thread, blocks run one after another (runtime.cpp). Call sites of
// barriers, warp operations and atomics come from default arguments, so that every complaint names a file and a line.
#define CUDA_EMU 1
#define __CUDA_ARCH__ 800
#include <math.h>  // not <cmath> alone: functions of float beside those of double
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

// ---- Keywords
#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// Static shared memory is all that a module has in its .bss: the runtime poisons it before each block and knows its addresses.
// A section of its own would not do, g++ ignores one for the variables of templates.
// `extern __shared__ T name[];` is rewritten by build.py to a pointer from emu_dynamic_shared().
#define __shared__ static
#define EMU_SITE const char *emu_file = __builtin_FILE(), int emu_line = __builtin_LINE()

#define EMU_UNCHECKED __attribute__((noinline, no_sanitize("thread", "undefined")))

// ---- Types and built-in variables
struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
#define EMU_VECTOR2(V, T) \
    struct alignas(2 * sizeof(T)) V { T x, y; }; \
    static inline V make_##V(T x, T y) { return {x, y}; }
#define EMU_VECTOR4(V, T) \
    struct alignas(16) V { T x, y, z, w; }; \
    static inline V make_##V(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTOR2(int2, int) EMU_VECTOR2(uint2, unsigned) EMU_VECTOR2(float2, float) EMU_VECTOR2(double2, double)
EMU_VECTOR4(int4, int) EMU_VECTOR4(uint4, unsigned) EMU_VECTOR4(float4, float)

struct EmuBuiltins { uint3 thread, block; dim3 block_size, grid_size; };
struct EmuWarp { uint64_t value[32]; unsigned lanes; };  // what each lane brought to a warp operation, and which lanes did

extern "C" {
extern const EmuBuiltins emu_builtins;  // written by the runtime at each switch: what a fiber has cached of it stays its own
int emu_barrier(const char* what, int predicate, const char* file, int line);  // returns the sum of the predicates
const EmuWarp* emu_warp(const char* what, unsigned mask, uint64_t value, const char* file, int line);
void* emu_dynamic_shared();
void emu_atomic(const void* address, unsigned bytes, const char* file, int line);
void emu_fence();
[[noreturn]] void emu_fail(const char* message, const char* file, int line);
void emu_copy(void* to, const void* from, unsigned bytes, bool there, const char* file, int line);
void emu_copies_wait();
}
#define threadIdx emu_builtins.thread
#define blockIdx emu_builtins.block
#define blockDim emu_builtins.block_size
#define gridDim emu_builtins.grid_size
static constexpr int warpSize = 32;

// ---- Barriers and fences
static inline void __syncthreads(EMU_SITE) { emu_barrier("__syncthreads", 0, emu_file, emu_line); }
static inline int __syncthreads_count(int p, EMU_SITE) {
    return emu_barrier("__syncthreads_count", p != 0, emu_file, emu_line);
}
static inline int __syncthreads_or(int p, EMU_SITE) {
    return emu_barrier("__syncthreads_or", p != 0, emu_file, emu_line) != 0;
}
static inline int __syncthreads_and(int p, EMU_SITE) {
    return emu_barrier("__syncthreads_and", p == 0, emu_file, emu_line) == 0;
}
static inline void __syncwarp(unsigned mask = ~0u, EMU_SITE) { emu_warp("__syncwarp", mask, 0, emu_file, emu_line); }
static inline void __threadfence() { emu_fence(); }
static inline void __threadfence_block() {}

// ---- Warp operations: each is a gather of one value per lane, after which every lane picks what it needs
static inline int emu_lane() { return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32; }

template <class T>
EMU_UNCHECKED static T emu_shuffle(const char* what, unsigned mask, T v, int source, const char* file, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    memcpy(&v, &emu_warp(what, mask, bits, file, line)->value[source], sizeof v);
    return v;
}
template <class T> static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32, EMU_SITE) {
    return emu_shuffle("__shfl_sync", mask, v, (emu_lane() & -width) + (from & (width - 1)), emu_file, emu_line);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, EMU_SITE) {
    const int lane = emu_lane(), source = lane - int(by);
    return emu_shuffle("__shfl_up_sync", mask, v, source < (lane & -width) ? lane : source, emu_file, emu_line);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, EMU_SITE) {
    const int lane = emu_lane(), source = lane + int(by);
    return emu_shuffle("__shfl_down_sync", mask, v, source > (lane | (width - 1)) ? lane : source, emu_file, emu_line);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, EMU_SITE) {
    const int lane = emu_lane(), source = lane ^ bits;
    return emu_shuffle("__shfl_xor_sync", mask, v, source > (lane | (width - 1)) ? lane : source, emu_file, emu_line);
}
EMU_UNCHECKED static unsigned emu_ballot(const char* what, unsigned mask, bool p, const char* file, int line) {
    const EmuWarp* warp = emu_warp(what, mask, p, file, line);
    unsigned bits = 0;
    for (int lane = 0; lane < 32; ++lane)
        if (warp->lanes >> lane & 1) bits |= unsigned(warp->value[lane]) << lane;
    return bits;
}
static inline unsigned __ballot_sync(unsigned mask, int p, EMU_SITE) {
    return emu_ballot("__ballot_sync", mask, p, emu_file, emu_line);
}
static inline int __any_sync(unsigned mask, int p, EMU_SITE) {
    return emu_ballot("__any_sync", mask, p, emu_file, emu_line) != 0;
}
static inline int __all_sync(unsigned mask, int p, EMU_SITE) {
    return emu_ballot("__all_sync", mask, !p, emu_file, emu_line) == 0;
}

// ---- Arithmetic. Names that glibc keeps to itself are macros.
#define EMU_MIN_MAX(T) \
    static inline T min(T a, T b) { return b < a ? b : a; } \
    static inline T max(T a, T b) { return a < b ? b : a; }
EMU_MIN_MAX(int) EMU_MIN_MAX(unsigned) EMU_MIN_MAX(long) EMU_MIN_MAX(unsigned long) EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __powf(x, y) powf(x, y)
static inline float rsqrtf(float x) { return float(1 / sqrt(double(x))); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }
static inline double sinpi(double x) { return sin(3.14159265358979323846 * x); }
static inline double cospi(double x) { return cos(3.14159265358979323846 * x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fadd_rn(float a, float b) { return a + b; }  // built with -ffp-contract=off: never part of an FMA
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
template <class To, class From> static inline To emu_bits(From x) { To y; memcpy(&y, &x, sizeof y); return y; }
static inline unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return emu_bits<float>(x); }
static inline int __float_as_int(float x) { return emu_bits<int>(x); }
static inline float __int_as_float(int x) { return emu_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return emu_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return emu_bits<double>(x); }
template <class T> static inline T __ldg(const T* p) { return *p; }

// ---- Atomics: fibers are switched only at barriers and warp operations, so a plain read-modify-write is one.
// They tell the checker themselves what they touch.
#define EMU_ATOMIC(NAME, NEW) \
    template <class T> EMU_UNCHECKED static T NAME(T* p, std::common_type_t<T> v, EMU_SITE) { \
        emu_atomic(p, sizeof(T), emu_file, emu_line); \
        const T old = *p; \
        *p = T(NEW); \
        return old; \
    }
EMU_ATOMIC(atomicAdd, old + v) EMU_ATOMIC(atomicSub, old - v) EMU_ATOMIC(atomicExch, v)
EMU_ATOMIC(atomicMin, v < old ? v : old) EMU_ATOMIC(atomicMax, old < v ? v : old)
EMU_ATOMIC(atomicAnd, old & v) EMU_ATOMIC(atomicOr, old | v) EMU_ATOMIC(atomicXor, old ^ v)
EMU_ATOMIC(atomicInc, old >= v ? 0 : old + 1) EMU_ATOMIC(atomicDec, old == 0 || old > v ? v : old - 1)
template <class T> EMU_UNCHECKED static T
atomicCAS(T* p, std::common_type_t<T> expected, std::common_type_t<T> desired, EMU_SITE) {
    emu_atomic(p, sizeof(T), emu_file, emu_line);
    const T old = *p;
    if (old == expected) *p = desired;
    return old;
}

// ---- Asynchronous copies and tensor cores, by the names of ptx.cuh
template <int BYTES> static inline void cp_async(void* to, const void* from, bool there, EMU_SITE) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async moves 4, 8 or 16 bytes");
    if ((uintptr_t(to) | uintptr_t(from)) % BYTES) emu_fail("cp.async: misaligned address", emu_file, emu_line);
    emu_copy(to, from, BYTES, there, emu_file, emu_line);
}
static inline void cp_async_wait_all() { emu_copies_wait(); }
static inline unsigned to_tf32(float x) {  // to nearest, ties away from zero
    const unsigned bits = emu_bits<unsigned>(x);
    if (x != x) return 0x7fffffffu;
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
}
EMU_UNCHECKED static EmuWarp emu_mma_operand(unsigned low, unsigned high, const char* file, int line) {
    const EmuWarp* warp = emu_warp("mma.sync", ~0u, low | uint64_t(high) << 32, file, line);
    if (warp->lanes != ~0u) emu_fail("mma.sync: expected all 32 lanes of the warp", file, line);
    return *warp;
}
EMU_UNCHECKED static double emu_tf32(const EmuWarp& warp, int lane, int half) {  // the bits that the hardware looks at
    return emu_bits<float>(unsigned(warp.value[lane] >> 32 * half) & 0xffffe000u);
}
EMU_UNCHECKED static void mma_m16n8k8(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMU_SITE) {
    const EmuWarp left = emu_mma_operand(a[0], a[1], emu_file, emu_line);  // columns 0 to 3 of a
    const EmuWarp right = emu_mma_operand(a[2], a[3], emu_file, emu_line);
    const EmuWarp other = emu_mma_operand(b[0], b[1], emu_file, emu_line);
    const int g = emu_lane() / 4, t = emu_lane() % 4;
    for (int q = 0; q < 4; ++q) {  // d[q] is in row g + 8 (q / 2), column 2 t + q % 2
        double sum = d[q];
        for (int k = 0; k < 8; ++k)
            sum += emu_tf32(k < 4 ? left : right, 4 * g + k % 4, q / 2) * emu_tf32(other, 4 * (2 * t + q % 2) + k % 4, k / 4);
        d[q] = float(sum);
    }
}

// ---- What a module exports: its static shared memory, and per kernel a call from an array of argument pointers.
// EMU_KERNEL lines are appended by __init__.py; the assertion holds its reading of the signature to the compiler's.
extern "C" {
extern char __bss_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));
__attribute__((visibility("default"))) void emu_shared_bounds(char** begin, char** end) {
    *begin = __bss_start;
    *end = _end;
}
}
template <auto kernel> struct EmuCall;
template <class... A, void (*kernel)(A...)> struct EmuCall<kernel> {
    template <size_t... I> EMU_UNCHECKED static void expand(void** p, std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_cv_t<A>*>(p[I])...);
    }
    EMU_UNCHECKED static void run(void** p) { expand(p, std::index_sequence_for<A...>{}); }
};
#define EMU_KERNEL(NAME, ...) \
    static_assert(std::is_same_v<decltype(&NAME), void (*)(__VA_ARGS__)>, "signature of " #NAME " misread"); \
    extern "C" __attribute__((visibility("default"))) EMU_UNCHECKED void emu_call_##NAME(void** p) { EmuCall<&NAME>::run(p); }
