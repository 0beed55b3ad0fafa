// Fibers: a stack and a switch, by hand on x86-64 and AArch64, elsewhere (or with EMU_UCONTEXT) by ucontext, which asks the
// kernel about signals each time and takes some fifteen times as long.
#pragma once
#include <cstddef>

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(EMU_UCONTEXT)

struct Context { void* sp; };

// Push what the ABI lets a callee keep, note the stack pointer in *from, take over `to`, pop the same.
extern "C" void emu_switch(void** from, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch, .-emu_switch
)");
constexpr int FRAME = 8, ENTRY = 6;  // words: six registers, the return address, and one that aligns the entry's stack
#else
asm(R"(
.text
.p2align 4
.type emu_switch, @function
emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size emu_switch, .-emu_switch
)");
constexpr int FRAME = 20, ENTRY = 11;  // words: x19 ... x30 (the last is the return address), d8 ... d15
#endif

inline void prepare(Context& context, char*, char* top, void (*entry)()) {
    void** frame = reinterpret_cast<void**>(top) - FRAME;
    for (int i = 0; i < FRAME; ++i) frame[i] = nullptr;
    frame[ENTRY] = reinterpret_cast<void*>(entry);
    context.sp = frame;
}
inline void change(Context& from, Context& to) { emu_switch(&from.sp, to.sp); }

#else
#include <ucontext.h>

struct Context { ucontext_t state; };

inline void prepare(Context& context, char* bottom, char* top, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = bottom;
    context.state.uc_stack.ss_size = size_t(top - bottom);
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}
inline void change(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

#endif
