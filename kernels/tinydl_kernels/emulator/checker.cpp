// The checker: races, out-of-bounds and uninitialized accesses. g++ compiles a checked kernel with -fsanitize=thread, which
// puts a call before every memory access; the calls land here instead of in a sanitizer library, so an error is an exception
// and the process lives on. -fsanitize=bounds,alignment,... likewise.
//
// Two accesses of one place, one of them a write and not both atomic, race unless ordered by
//   a barrier of the block      they lie in different intervals;
//   a __syncwarp                same warp, the earlier one in an earlier warp interval;
//   release and acquire         other block: __threadfence and an atomic there, an atomic on the same address here.
// A shadow cell per place keeps the last write and a summary of the reads; a place is a 4-byte word, or a byte once somebody
// touches part of a word. The method is that of Serebryany and Iskhodzhanov, "ThreadSanitizer: data race detection in
// practice", WBIA 2009, with a GPU's barriers for clocks.
#include <dlfcn.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <unordered_map>
#include <vector>

#include "runtime.h"

namespace {

enum Who : uint8_t { THREAD, WARP, BLOCK, GRID };  // one thread, or several within such a group

struct Past {               // an earlier access
    uint32_t interval = 0;  // 0: there was none
    uint32_t block = 0;
    uint32_t warp_interval = 0;
    uint16_t thread = 0;
    Who who = THREAD;
    bool atomic = false;
};
struct Cell {
    Past write, read;
};

struct Range {  // an array of the launch, or shared memory
    uintptr_t begin, end;
    const char* kind;
    const char* name;
    bool read_only, shared;
    unsigned place;  // bytes per cell: 4, or 1
    std::vector<Cell> cells;

    void refine() {  // from words to bytes; so far all accesses were whole words, so each byte has its word's past
        std::vector<Cell> bytes(end - begin);
        for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = cells[i / 4];
        cells.swap(bytes);
        place = 1;
    }
};

struct Release {
    uint32_t interval;
    uint16_t thread;
};

std::vector<Range> ranges;
const Launch* launch;
unsigned block_start;  // first interval of the running block

// Release and acquire: what each block has released at each address, up to where the running block has acquired from each
// block, and in which interval each of its threads has last fenced.
std::unordered_map<uintptr_t, std::unordered_map<uint32_t, Release>> released;
std::unordered_map<uint32_t, Release> acquired;
std::unordered_map<uint16_t, uint32_t> fences;

void add(const void* begin, uint64_t bytes, const char* kind, const char* name, bool read_only, bool shared) {
    if (!bytes) return;
    const uintptr_t a = reinterpret_cast<uintptr_t>(begin);
    for (Range& r : ranges)
        if (r.begin == a && r.end == a + bytes) {  // an array passed twice, to read and to write
            r.read_only &= read_only;
            return;
        }
    ranges.push_back({a, a + bytes, kind, name, read_only, shared, 4, std::vector<Cell>((bytes + 3) / 4)});
}

Range* containing(uintptr_t a) {
    for (Range& r : ranges)
        if (a - r.begin < r.end - r.begin) return &r;
    return nullptr;
}

bool in_module(uintptr_t a) {  // __constant__ and __device__ variables, tables of the compiler
    Dl_info where, module;
    return dladdr(reinterpret_cast<void*>(a), &where) && dladdr(reinterpret_cast<void*>(launch->call), &module) &&
           where.dli_fbase == module.dli_fbase;
}

// Has the running block acquired what that block had done by then?
bool acquired_from(const Past& past) {
    const auto found = acquired.find(past.block);
    if (found == acquired.end()) return false;
    const Release& release = found->second;
    return past.interval < release.interval || (past.interval == release.interval && past.thread == release.thread);
}

// Is there nothing that orders an access of mine after that earlier one?
bool unordered(const Past& past, const Place& me, bool shared) {
    if (!past.interval) return false;
    if (past.who == GRID) return true;
    if (past.block != me.block) return !shared && !acquired_from(past);
    if (past.interval != me.interval) return false;
    if (past.who == BLOCK || past.thread / 32 != me.thread / 32) return true;
    if (past.who == THREAD && past.thread == me.thread) return false;
    return past.warp_interval == me.warp_interval;
}

// The summary of the reads so far with mine added; reads that a barrier separates from now on need not be kept.
Past with_read(const Past& past, const Place& me, bool shared) {
    Past now{me.interval, me.block, me.warp_interval, uint16_t(me.thread), THREAD, false};
    if (!past.interval) return now;
    if (past.who == GRID || (past.block != me.block && !shared))
        now.who = GRID;
    else if (past.block != me.block || past.interval != me.interval)
        return now;
    else if (past.who == BLOCK || past.thread / 32 != me.thread / 32)
        now.who = BLOCK;
    else if (past.warp_interval == me.warp_interval && (past.who == WARP || past.thread != me.thread))
        now.who = WARP;
    return now;
}

[[noreturn]] void race(Site site, const char* verb, const Range& range, size_t offset, const char* verbed, const Past& past,
                       const Place& me) {
    fail(site, "race: %s of %s%s at offset %zu, %s by thread %u of block %u with no %s between", verb, range.kind, range.name,
         offset, verbed, past.thread, past.block, past.block == me.block ? "barrier" : "order of the blocks");
}

[[noreturn]] void out_of_bounds(Site site, uintptr_t a, unsigned bytes, const char* verb) {
    const auto distance = [a](const Range& r) { return a < r.begin ? r.begin - a : a - r.end; };
    const auto nearest = std::min_element(ranges.begin(), ranges.end(),
                                          [&](const Range& r, const Range& s) { return distance(r) < distance(s); });
    if (nearest == ranges.end()) fail(site, "out of bounds: %s of %u bytes in no array of the launch", verb, bytes);
    fail(site, "out of bounds: %s of %u bytes at offset %td of %s%s, which has %zu bytes", verb, bytes,
         ptrdiff_t(a - nearest->begin), nearest->kind, nearest->name, size_t(nearest->end - nearest->begin));
}

void access(uintptr_t a, unsigned bytes, bool write, bool atomic, Site site) {
    if (!running() || !launch->checked) return;
    if (a - reinterpret_cast<uintptr_t>(&emu_builtins) < sizeof emu_builtins) return;
    const Place me = place();
    const char* verb = atomic ? "atomic" : write ? "write" : "read";
    const uintptr_t stack = reinterpret_cast<uintptr_t>(stacks());
    if (a - stack < MAX_THREADS * STACK) {
        if (a - reinterpret_cast<uintptr_t>(me.stack) >= STACK) fail(site, "%s of another thread's local variable", verb);
        return;
    }
    Range* range = containing(a);
    if (!range && in_module(a)) return;
    if (!range || a + bytes > range->end) out_of_bounds(site, a, bytes, verb);

    const size_t offset = a - range->begin;
    const char *kind = range->kind, *name = range->name;
    if (write && range->read_only) fail(site, "%s through a pointer to const: %s%s at offset %zu", verb, kind, name, offset);
    if (range->place == 4 && (offset % 4 || bytes % 4)) range->refine();
    for (size_t i = offset / range->place; i * range->place < offset + bytes; ++i) {
        Cell& cell = range->cells[i];
        const size_t where = i * range->place;
        if (range->shared && (!write || atomic) && cell.write.interval < block_start)
            fail(site, "%s of uninitialized %s at offset %zu", verb, kind, where);
        if (!(atomic && cell.write.atomic) && unordered(cell.write, me, range->shared))
            race(site, verb, *range, where, "written", cell.write, me);
        if (write && unordered(cell.read, me, range->shared)) race(site, verb, *range, where, "read", cell.read, me);
        if (write)
            cell.write = {me.interval, me.block, me.warp_interval, uint16_t(me.thread), THREAD, atomic};
        else
            cell.read = with_read(cell.read, me, range->shared);
    }
}

}  // namespace

void checker_begin(const Launch& wanted, char* shared, char* shared_end, char* dynamic) {
    launch = &wanted;
    ranges.clear();
    released.clear();
    if (!wanted.checked) return;
    add(shared, uint64_t(shared_end - shared), "static shared memory", "", false, true);
    add(dynamic, wanted.dynamic_shared, "dynamic shared memory", "", false, true);
    for (uint64_t i = 0; i < wanted.count; ++i) {
        const Argument& argument = wanted.arguments[i];
        if (argument.bytes)
            add(*static_cast<void**>(argument.value), argument.bytes, "argument ", argument.name, argument.read_only, false);
    }
}

void checker_begin_block(unsigned interval) {
    block_start = interval;
    acquired.clear();
    fences.clear();
}

void checker_access(const void* address, unsigned bytes, bool write, Site site) {
    access(reinterpret_cast<uintptr_t>(address), bytes, write, false, site);
}

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void emu_fence() {
    if (!launch->checked) return;
    const Place me = place();
    fences[uint16_t(me.thread)] = me.interval;
}

EXPORT void emu_atomic(const void* address, unsigned bytes, const char* file, int line) {
    if (!launch->checked) return;
    const uintptr_t a = reinterpret_cast<uintptr_t>(address);
    access(a, bytes, true, true, {file, line, nullptr});
    const Range* range = containing(a);
    if (!range || range->shared) return;
    auto& by_block = released[a];
    for (const auto& [block, release] : by_block) {
        Release& known = acquired[block];
        if (known.interval <= release.interval) known = release;
    }
    const Place me = place();
    const auto fence = fences.find(uint16_t(me.thread));
    if (fence != fences.end()) by_block[me.block] = {fence->second, fence->first};
}

// ---- The call-outs of -fsanitize=thread
#define HERE \
    Site { nullptr, 0, __builtin_return_address(0) }
#define CALL_OUT(NAME, BYTES, WRITE) \
    EXPORT void __tsan_##NAME##BYTES(void* a) { access(reinterpret_cast<uintptr_t>(a), BYTES, WRITE, false, HERE); }
#define CALL_OUTS(BYTES) \
    CALL_OUT(read, BYTES, false) \
    CALL_OUT(unaligned_read, BYTES, false) CALL_OUT(volatile_read, BYTES, false) CALL_OUT(write, BYTES, true) \
        CALL_OUT(unaligned_write, BYTES, true) CALL_OUT(volatile_write, BYTES, true)
CALL_OUTS(1) CALL_OUTS(2) CALL_OUTS(4) CALL_OUTS(8) CALL_OUTS(16) EXPORT void __tsan_read_range(void* a, size_t n) {
    access(reinterpret_cast<uintptr_t>(a), unsigned(n), false, false, HERE);
}
EXPORT void __tsan_write_range(void* a, size_t n) { access(reinterpret_cast<uintptr_t>(a), unsigned(n), true, false, HERE); }
EXPORT void __tsan_init() {}
EXPORT void __tsan_func_entry(void*) {}
EXPORT void __tsan_func_exit() {}

// ---- The call-outs of -fsanitize=bounds,...: their first argument begins with file, line, column
struct Source {
    const char* file;
    uint32_t line, column;
};
#define UNDEFINED(NAME, TEXT) \
    EXPORT void __ubsan_handle_##NAME(const Source* source) { \
        if (running()) fail({source->file, int(source->line), nullptr}, TEXT); \
    }
UNDEFINED(out_of_bounds, "out of bounds: array index")
UNDEFINED(type_mismatch_v1, "misaligned address")
UNDEFINED(shift_out_of_bounds, "shift by more bits than the type has")
UNDEFINED(add_overflow, "signed overflow in +")
UNDEFINED(sub_overflow, "signed overflow in -")
UNDEFINED(mul_overflow, "signed overflow in *")
UNDEFINED(negate_overflow, "signed overflow in unary -")
UNDEFINED(divrem_overflow, "division by zero")
