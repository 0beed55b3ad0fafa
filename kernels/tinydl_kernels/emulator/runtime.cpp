// The scheduler: runs a launch block after block on one OS thread, each CUDA thread a fiber that is switched at barriers and
// warp operations only. A kernel that is right gives the same result in every order of threads and blocks.
#include "runtime.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <vector>

#include "fiber.h"

extern "C" __attribute__((visibility("default"))) EmuBuiltins emu_builtins;
EmuBuiltins emu_builtins;

namespace {

enum State : uint8_t { FRESH, READY, AT_BARRIER, AT_WARP, DONE };
enum Order { FORWARD, REVERSED, RANDOM };

struct Copy {
    void* to;
    const void* from;
    unsigned bytes;
    bool there;  // else zeros
    Site site;
};

struct Thread {
    Context context;
    char* stack;
    uint3 index;
    State state;
    // What it waits for
    const char* what;
    Site site;
    int predicate;   // barrier: brought, then the sum
    unsigned mask;   // warp operation: the lanes named
    uint64_t value;  // brought
    EmuWarp warp;    // taken home
    unsigned warp_interval;
    std::vector<Copy> copies;  // asynchronous ones under way
};

Thread threads[MAX_THREADS];
Thread* current;
Context scheduler;
const Launch* launch;
void** values;
unsigned thread_count, alive, block_number, interval;
char* dynamic_shared;

char error[2048];
Site error_site;
bool failed;

uint64_t random_state;
uint64_t next_random() {  // xorshift64
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}
void arrange(unsigned* order, unsigned n) {
    for (unsigned i = 0; i < n; ++i) order[i] = launch->order == REVERSED ? n - 1 - i : i;
    if (launch->order == RANDOM)
        for (unsigned i = n; i > 1; --i) std::swap(order[i - 1], order[next_random() % i]);
}

// ---- Stacks: a thread takes one when it first runs and gives it back when it ends, so that a kernel without barriers runs on
// one warm stack. The tops are staggered, else equal offsets in all stacks fall into the same cache sets.
char* stack_memory;
char* free_stacks[MAX_THREADS];
unsigned free_count;

bool make_stacks() {
    if (stack_memory) return true;
    void* memory =
        mmap(nullptr, MAX_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    stack_memory = static_cast<char*>(memory);
    for (unsigned i = 0; i < MAX_THREADS; ++i) mprotect(stack_memory + i * STACK, 4096, PROT_NONE);  // an overflow faults
    return true;
}
void free_all_stacks() {
    free_count = MAX_THREADS;
    for (unsigned i = 0; i < MAX_THREADS; ++i) free_stacks[i] = stack_memory + (MAX_THREADS - 1 - i) * STACK;
}

// ---- Switching
void suspend() { change(current->context, scheduler); }

void thread_main() {
    launch->call(values);
    current->state = DONE;
    --alive;
    free_stacks[free_count++] = current->stack;
    suspend();
    __builtin_unreachable();
}

void resume(Thread& thread) {
    if (thread.state == FRESH) {
        thread.stack = free_stacks[--free_count];
        const uint64_t number = uint64_t(thread.stack - stack_memory) / STACK;
        prepare(thread.context, thread.stack, thread.stack + STACK - 192 * (number % 61), thread_main);
        thread.state = READY;
    }
    current = &thread;
    emu_builtins.thread = thread.index;
    change(scheduler, thread.context);
    current = nullptr;
}

void note(Site site, const char* format, va_list arguments) {
    failed = true;
    error_site = site;
    vsnprintf(error, sizeof error, format, arguments);
}
__attribute__((format(printf, 3, 4))) void blame(const Thread& thread, Site site, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    note(site, format, arguments);
    va_end(arguments);
    const size_t used = strlen(error);
    const uint3 t = thread.index, b = emu_builtins.block;
    snprintf(error + used, sizeof error - used, " [block (%u,%u,%u) thread (%u,%u,%u)]", b.x, b.y, b.z, t.x, t.y, t.z);
}

// ---- Waiting
bool same_call(const Thread& a, const Thread& b) { return a.site.line == b.site.line && a.what == b.what; }

// Every thread that has not returned waits at a block barrier: let them go. True if so, or if that is an error.
bool release_barrier() {
    const Thread* first = nullptr;
    int sum = 0;
    for (unsigned i = 0; i < thread_count; ++i) {
        if (threads[i].state == DONE) continue;
        if (threads[i].state != AT_BARRIER) return false;
        if (!first) first = &threads[i];
        if (!same_call(*first, threads[i])) {
            blame(threads[i], threads[i].site, "divergent barrier: other threads of the block wait in %s at line %d",
                  first->what, first->site.line);
            return true;
        }
        sum += threads[i].predicate;
    }
    if (alive < thread_count) {
        blame(*first, first->site, "divergent barrier: reached by %u of %u threads, the others have returned", alive,
              thread_count);
        return true;
    }
    ++interval;
    for (unsigned i = 0; i < thread_count; ++i) {
        threads[i].state = READY;
        threads[i].predicate = sum;
    }
    return true;
}

// The caller, last of the lanes it names, serves them all. False if some are still to come.
bool complete_warp(unsigned warp, unsigned mask, const Thread& caller) {
    Thread* lane = threads + 32 * warp;
    EmuWarp gathered;
    memset(gathered.value, 0xFF, sizeof gathered.value);  // NaN: what absent lanes give is undefined
    gathered.lanes = mask;
    unsigned newest = 0;
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        const int i = __builtin_ctz(rest);
        if (lane[i].state != AT_WARP || lane[i].mask != mask || !same_call(lane[i], caller)) return false;
        gathered.value[i] = lane[i].value;
        newest = std::max(newest, lane[i].warp_interval);
    }
    const bool orders_memory = !strcmp(caller.what, "__syncwarp");  // shuffles and votes do not
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        Thread& t = lane[__builtin_ctz(rest)];
        t.warp = gathered;
        t.state = READY;
        if (orders_memory) t.warp_interval = newest + 1;
    }
    return true;
}

void report_deadlock() {
    char waits[1024];
    size_t used = 0;
    unsigned shown = 0;
    const Thread* first = nullptr;
    for (unsigned i = 0; i < thread_count && shown < 6; ++i) {
        const Thread& t = threads[i];
        const bool repeated =
            std::any_of(threads, threads + i, [&](const Thread& u) { return u.state == t.state && same_call(u, t); });
        if (t.state == DONE || repeated) continue;
        used += size_t(snprintf(waits + used, sizeof waits - used, "%s thread %u waits in %s at line %d", shown++ ? "," : "", i,
                                t.what, t.site.line));
        if (t.state == AT_WARP) used += size_t(snprintf(waits + used, sizeof waits - used, " for lanes %#x", t.mask));
        if (!first) first = &t;
    }
    blame(*first, first->site, "deadlock:%s; %u of %u threads have returned", waits, thread_count - alive, thread_count);
}

// ---- Running
void run_block(char* shared, char* shared_end) {
    if (shared) memset(shared, 0xFF, size_t(shared_end - shared));  // NaN
    if (dynamic_shared) memset(dynamic_shared, 0xFF, launch->dynamic_shared);
    alive = thread_count;
    ++interval;
    checker_begin_block(interval);
    free_all_stacks();
    for (unsigned i = 0; i < thread_count; ++i) {
        threads[i].state = FRESH;
        threads[i].warp_interval = 0;
        threads[i].copies.clear();
    }
    static unsigned order[MAX_THREADS];
    arrange(order, thread_count);
    while (alive) {
        bool progress = false;
        for (unsigned i = 0; i < thread_count; ++i) {
            Thread& thread = threads[order[i]];
            if (thread.state > READY) continue;
            progress = true;
            resume(thread);
            if (failed) return;
        }
        if (!alive) return;
        const bool released = release_barrier();
        if (!released && !progress) report_deadlock();
        if (failed) return;
        if (launch->order == RANDOM) arrange(order, thread_count);
    }
}

}  // namespace

bool running() { return current != nullptr; }
const char* stacks() { return stack_memory; }
Place place() { return {block_number, unsigned(current - threads), interval, current->warp_interval, current->stack}; }

void fail(Site site, const char* format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    blame(*current, site, "%s", message);
    suspend();  // for ever: the scheduler gives the launch up
    __builtin_unreachable();
}

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int emu_barrier(const char* what, int predicate, const char* file, int line) {
    Thread& me = *current;
    me.what = what;
    me.site = {file, line, nullptr};
    me.predicate = predicate;
    me.state = AT_BARRIER;
    suspend();
    return me.predicate;
}

EXPORT const EmuWarp* emu_warp(const char* what, unsigned mask, uint64_t value, const char* file, int line) {
    Thread& me = *current;
    const unsigned number = unsigned(&me - threads), warp = number / 32, lane = number % 32;
    const unsigned lanes = std::min(32u, thread_count - 32 * warp);
    const Site site{file, line, nullptr};
    if (!(mask >> lane & 1)) fail(site, "%s: lane %u is not in its own mask %#x", what, lane, mask);
    if (lanes < 32) {
        if (mask != ~0u && mask >> lanes) fail(site, "%s: mask %#x names lanes that the block does not have", what, mask);
        mask &= (1u << lanes) - 1;
    }
    me.what = what;
    me.site = site;
    me.mask = mask;
    me.value = value;
    me.state = AT_WARP;
    if (!complete_warp(warp, mask, me)) suspend();
    return &me.warp;
}

EXPORT void emu_fail(const char* message, const char* file, int line) { fail({file, line, nullptr}, "%s", message); }

// The copy is made when its thread waits for it: who reads too early gets NaN. The checker sees the write at both times.
EXPORT void emu_copy(void* to, const void* from, unsigned bytes, bool there, const char* file, int line) {
    const Site site{file, line, nullptr};
    if (there) checker_access(from, bytes, false, site);
    checker_access(to, bytes, true, site);
    memset(to, 0xFF, bytes);
    current->copies.push_back({to, from, bytes, there, site});
}

EXPORT void emu_copies_wait() {
    for (const Copy& copy : current->copies) {
        checker_access(copy.to, copy.bytes, true, copy.site);
        if (copy.there)
            memcpy(copy.to, copy.from, copy.bytes);
        else
            memset(copy.to, 0, copy.bytes);
    }
    current->copies.clear();
}

EXPORT void* emu_dynamic_shared() { return dynamic_shared; }

// Runs a launch; 0 if all went well, else emu_error says what happened.
EXPORT int emu_launch(const Launch* wanted) {
    launch = wanted;
    failed = false;
    interval = 0;
    random_state = launch->seed * 0x9E3779B97F4A7C15u | 1;
    thread_count = launch->block[0] * launch->block[1] * launch->block[2];
    if (!make_stacks()) {
        snprintf(error, sizeof error, "no memory for the stacks of %u threads", MAX_THREADS);
        error_site = {};
        return 1;
    }
    void* pointers[1024];  // more than the parameters of a kernel and the lists in them can be
    for (uint64_t i = 0; i < launch->count; ++i) pointers[i] = launch->arguments[i].value;
    values = pointers;

    char *shared, *shared_end;
    launch->shared_bounds(&shared, &shared_end);
    dynamic_shared = nullptr;
    if (launch->dynamic_shared)
        dynamic_shared = static_cast<char*>(aligned_alloc(128, (launch->dynamic_shared + 127) & ~127ull));
    checker_begin(*launch, shared, shared_end, dynamic_shared);

    const uint32_t *g = launch->grid, *b = launch->block;
    emu_builtins.grid_size = {g[0], g[1], g[2]};
    emu_builtins.block_size = {b[0], b[1], b[2]};
    for (unsigned i = 0; i < thread_count; ++i) threads[i].index = {i % b[0], i / b[0] % b[1], i / b[0] / b[1]};
    const unsigned blocks = g[0] * g[1] * g[2];
    unsigned* order = static_cast<unsigned*>(malloc(blocks * sizeof(unsigned)));
    arrange(order, blocks);
    for (unsigned i = 0; i < blocks && !failed; ++i) {
        const unsigned n = block_number = order[i];
        emu_builtins.block = {n % g[0], n / g[0] % g[1], n / g[0] / g[1]};
        run_block(shared, shared_end);
    }
    current = nullptr;
    free(order);
    free(dynamic_shared);
    return failed;
}

// The error's text, and its place: a source line, or an offset in the kernel's shared library.
EXPORT const char* emu_error(const char** file, int* line, uint64_t* offset) {
    *file = error_site.file;
    *line = error_site.line;
    Dl_info library;
    if (error_site.pc && dladdr(error_site.pc, &library))
        *offset = static_cast<char*>(error_site.pc) - static_cast<char*>(library.dli_fbase);
    return error;
}
