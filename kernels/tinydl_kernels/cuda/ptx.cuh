// The instructions that C++ has no words for. The emulator brings functions of the same names (cuda_emu.h).
//
// They exist from sm_80 on, where ASYNC_COPY and TENSOR_CORES say so.

#include "common.cuh"

// A pointer that the compiler takes as it is: it would else add up anew for each use what the pointer is made of.
template <class T> __device__ T* settled(T* pointer) {
#if !defined(CUDA_EMU)
    asm("" : "+l"(pointer));
#endif
    return pointer;
}

#if __CUDA_ARCH__ >= 800
#define ASYNC_COPY
#if !defined(CUDA_EMU)

// Starts a copy of BYTES = 4, 8 or 16, aligned alike, from global to shared memory, or zeros them unless `there`.
template <int BYTES> __device__ void cp_async(void* to, const void* from, bool there) {
    const u32 shared = u32(__cvta_generic_to_shared(to));
    if constexpr (BYTES == 16)  // past L1
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(there ? 16 : 0) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(from), "n"(BYTES),
                     "r"(there ? BYTES : 0)
                     : "memory");
}

// The copies that this thread has started are done; those of others are after a barrier.
__device__ void cp_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// A float rounded to TF32: 8 bits of exponent, 10 of mantissa, ties away from zero.
__device__ u32 to_tf32(float x) {
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

// d += a b for a (16, 8), b (8, 8), d (16, 8), spread over the 32 lanes of a warp. With g = lane / 4, t = lane % 4 a lane has
//     a[0 1 2 3]   rows g, g + 8, g, g + 8   of columns t, t, t + 4, t + 4
//     b[0 1]       rows t, t + 4             of column g
//     d[0 1 2 3]   rows g, g, g + 8, g + 8   of columns 2 t, 2 t + 1, 2 t, 2 t + 1
__device__ void mma_m16n8k8(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
#endif
