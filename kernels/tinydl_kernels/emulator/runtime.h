// What the scheduler (runtime.cpp) and the checker (checker.cpp) share.
#pragma once
#include <cstdint>

// ---- A launch, as __init__.py describes it

struct Argument {
    void* value;     // where its value lies
    uint64_t bytes;  // size of the array behind a pointer; 0 for scalars and null pointers
    const char* name;
    int32_t read_only;  // a pointer to const
};

struct Launch {
    void (*call)(void**);                   // runs the kernel for one thread, from pointers to its arguments
    void (*shared_bounds)(char**, char**);  // begin and end of the module's static shared memory
    const Argument* arguments;
    uint64_t count;
    uint64_t dynamic_shared;  // bytes
    uint64_t seed;
    uint32_t grid[3], block[3];
    int32_t order;    // of threads and blocks: 0 forward, 1 reversed, 2 random
    int32_t checked;  // the module was compiled with call-outs for every memory access
};

// ---- What cuda_emu.h declares to kernels

struct uint3 {
    uint32_t x, y, z;
};

struct EmuBuiltins {
    uint3 thread, block, block_size, grid_size;
};

struct EmuWarp {
    uint64_t value[32];
    uint32_t lanes;
};

extern "C" EmuBuiltins emu_builtins;

// ---- What the scheduler tells the checker

struct Site {  // a source line, or a code address that addr2line turns into one
    const char* file;
    int line;
    void* pc;
};

struct Place {               // where the running thread is
    unsigned block, thread;  // linear numbers
    unsigned interval;       // numbers the stretches between block barriers, over the whole launch; from 1
    unsigned warp_interval;  // the same between __syncwarps, within the thread's block
    const char* stack;       // lowest address of its stack
};

constexpr uint64_t STACK = 64 * 1024;
constexpr unsigned MAX_THREADS = 1024;

bool running();  // is a device thread running, as opposed to the host or the scheduler?
Place place();
const char* stacks();  // all of them, MAX_THREADS * STACK bytes
[[noreturn]] void fail(Site site, const char* format, ...) __attribute__((format(printf, 2, 3)));

// ---- What the checker wants to know

void checker_begin(const Launch& launch, char* shared, char* shared_end, char* dynamic);
void checker_begin_block(unsigned interval);
void checker_access(const void* address, unsigned bytes, bool write, Site site);  // one that no call-out announces
