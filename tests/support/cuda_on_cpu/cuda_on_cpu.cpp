// Runs CUDA C++ kernels on the CPU, to test them on machines without a GPU.
//
// Blocks run one after another; the threads of a block are fibers (ucontext),
// each running until it ends or waits at __syncthreads() or in a warp function.
// The order of blocks and threads comes from `seed` (0: ascending, 1: descending,
// else shuffled).
//
// The kernels are compiled with -fsanitize=thread, but not linked with its library:
// the compiler then calls the functions __tsan_... below before every access to
// memory (Linux's KCSAN does the same). They notice accesses outside the arrays that
// were passed and outside shared memory, misaligned ones, reads of shared memory that
// nobody has written, and races: two threads use the same memory, one of them to write, with
// no barrier between them and not both by atomic functions.
//
// Not modelled: time, coalescing, bank conflicts, caches, streams, --use_fast_math,
// dynamic shared memory.
#include "cuda_on_cpu.h"

#include <dlfcn.h>
#include <link.h>
#include <setjmp.h>
#include <ucontext.h>
#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace cuda_on_cpu {

uint3 thread_index, block_index;
dim3 block_dim, grid_dim;

namespace {

constexpr size_t stack_size = 128 * 1024;
enum class State { ready, in_barrier, in_warp, done };

struct Fiber {
    ucontext_t context;
    jmp_buf jump;
    bool started = false;
    std::unique_ptr<char[]> stack;
    State state = State::done;
    unsigned index = 0;                        // in its block
    uint3 thread{};
    const char* where = nullptr;               // file and line of what it waits in
    unsigned mask = 0;                         // the lanes it waits for, in a warp function
    alignas(8) char offer[32];                 // what the other lanes may read there
    unsigned barriers = 0, warp_barriers = 0;  // passed in this block
};

struct Access {
    unsigned block = ~0u, barriers = 0;
    uint16_t thread = 0, warp_barriers = 0;
    bool write = false, atomic = false;
    const void* pc = nullptr;
};

struct Cell {  // what is known of four bytes
    Access write, reads[3];  // the first of its block and barrier, the last of another thread, one of another block
};

struct Region {
    char* begin;
    uint64_t size;
    bool shared;
    std::vector<Cell> cells;
};

std::vector<std::unique_ptr<Fiber>> fibers;
Fiber scheduler;
Fiber* current = nullptr;  // null: no kernel is running
std::vector<Region> regions;
unsigned block_number;
void (*body)(void*);
void* body_data;
std::string error;

void switch_fiber(Fiber& from, Fiber& to)  // swapcontext without its system call, so 8 times as fast
{
    if (_setjmp(from.jump)) return;
    if (to.started) _longjmp(to.jump, 1);
    to.started = true;
    setcontext(&to.context);
}

void wait(State state, const char* where)
{
    current->state = state;
    current->where = where;
    switch_fiber(*current, scheduler);
}

void fiber_main()
{
    for (;;) {
        body(body_data);
        wait(State::done, nullptr);
    }
}

void add_fiber()
{
    auto f = std::make_unique<Fiber>();
    f->index = fibers.size();
    f->stack.reset(new char[stack_size]);
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack.get();
    f->context.uc_stack.ss_size = stack_size;
    makecontext(&f->context, fiber_main, 0);
    fibers.push_back(std::move(f));
}

std::string at(const uint3& v)
{
    return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

bool fail(const std::string& what, const Fiber& f, const std::string& where)
{
    error = what + ": block " + at(block_index) + " thread " + at(f.thread) + " at " + where;
    return false;
}

void stop(const std::string& what, const std::string& where)  // from inside a thread
{
    fail(what, *current, where);
    wait(State::done, nullptr);
}

// Lets go on those lanes of one warp whose whole mask waits in the same call.
void release_warp(unsigned first, unsigned threads)
{
    for (unsigned i = first; i < std::min(first + 32, threads); ++i) {
        if (fibers[i]->state != State::in_warp) continue;
        const unsigned mask = fibers[i]->mask;
        bool all = true;
        for (unsigned j = first; j < first + 32; ++j)
            if (mask >> (j - first) & 1)
                all = all && j < threads && fibers[j]->state == State::in_warp && fibers[j]->mask == mask &&
                      fibers[j]->where == fibers[i]->where;
        for (unsigned j = first; all && j < first + 32; ++j)
            if (mask >> (j - first) & 1) fibers[j]->state = State::ready;
    }
}

// No thread can run: lets all go on if all wait in the same __syncthreads().
bool release_block(unsigned threads)
{
    const State state = fibers[0]->state;
    for (unsigned i = 0; i < threads; ++i) {
        const Fiber& f = *fibers[i];
        if (f.state != state || f.where != fibers[0]->where)
            return fail("not all threads get to the same barrier", f, f.where ? f.where : "its end");
    }
    if (state == State::in_warp) return fail("not all lanes of the mask get here", *fibers[0], fibers[0]->where);
    if (state == State::done) return false;
    for (unsigned i = 0; i < threads; ++i) fibers[i]->state = State::ready;
    return true;
}

void run_block(const std::vector<unsigned>& order)
{
    for (unsigned i : order) {
        Fiber& f = *fibers[i];
        f.state = State::ready;
        f.barriers = f.warp_barriers = 0;
        f.thread = {i % block_dim.x, i / block_dim.x % block_dim.y, i / block_dim.x / block_dim.y};
    }
    for (bool ran = true; ran || release_block(order.size());) {
        ran = false;
        for (unsigned i : order) {
            Fiber& f = *fibers[i];
            if (f.state != State::ready) continue;
            ran = true;
            current = &f;
            thread_index = f.thread;
            switch_fiber(scheduler, f);
            current = nullptr;
            if (!error.empty()) return;
        }
        for (unsigned first = 0; ran && first < order.size(); first += 32) release_warp(first, order.size());
    }
}

thread_local char anchor;  // makes sure that there is thread-local memory

// Shared memory is thread_local: that of this library.
Region shared_memory()
{
    Region found{&anchor, 0, true, {}};
    auto visit = [](dl_phdr_info* info, size_t, void* found) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto& h = info->dlpi_phdr[i];
            char* begin = static_cast<char*>(info->dlpi_tls_data);
            if (h.p_type == PT_TLS && begin && uint64_t(&anchor - begin) < h.p_memsz)
                *static_cast<Region*>(found) = {begin, h.p_memsz, true, {}};
        }
        return 0;
    };
    dl_iterate_phdr(visit, &found);
    return found;
}

std::string place(const void* pc)  // Python finds the line
{
    Dl_info info;
    dladdr(pc, &info);
    char text[32];
    snprintf(text, sizeof text, "@%#zx", static_cast<const char*>(pc) - static_cast<const char*>(info.dli_fbase) - 1);
    return text;
}

uint3 thread_of(unsigned i) { return {i % block_dim.x, i / block_dim.x % block_dim.y, i / block_dim.x / block_dim.y}; }

// May these two happen at the same time, and does that matter?
bool conflict(const Access& a, const Access& b)
{
    if (a.block == ~0u || !(a.write || b.write) || (a.atomic && b.atomic)) return false;
    if (a.block != b.block) return true;
    return a.thread != b.thread && a.barriers == b.barriers &&
           !(a.thread / 32 == b.thread / 32 && a.warp_barriers != b.warp_barriers);
}

void note(Region& region, uint64_t offset, const Access& now)
{
    Cell& cell = region.cells[offset / 4];
    if (region.shared && cell.write.block != now.block) {
        cell = {};
        if (!now.write) stop("reads shared memory that no thread has written", place(now.pc));
    }
    for (const Access* old : {&cell.write, &cell.reads[0], &cell.reads[1], &cell.reads[2]}) {
        if (!conflict(*old, now)) continue;
        std::string what = now.write ? "writes " : "reads ";
        what += region.shared ? "shared memory" : "array " + std::to_string(&region - regions.data());
        what += " (byte " + std::to_string(offset) + ") that thread " + at(thread_of(old->thread));
        if (old->block != now.block) what += " of block " + std::to_string(old->block);
        what += (old->write ? " writes at " : " reads at ") + place(old->pc) + ", with no barrier between";
        stop(what, place(now.pc));
    }
    if (now.write) { cell.write = now; return; }
    Access* reads = cell.reads;
    if (reads[0].block != now.block || reads[0].barriers != now.barriers) {
        if (reads[0].block != now.block) reads[2] = reads[0];
        reads[0] = reads[1] = now;
    } else if (reads[0].thread != now.thread) reads[1] = now;
    else reads[0] = now;
}

}  // namespace

void access(const void* at, size_t size, bool write, bool atomic, const void* pc)
{
    if (!current) return;
    Fiber& f = *current;
    const char* p = static_cast<const char*>(at);
    if (uint64_t(p - f.stack.get()) < stack_size) return;
    const Access now{block_number, f.barriers, uint16_t(f.index), uint16_t(f.warp_barriers), write, atomic, pc};
    for (Region& region : regions) {
        const uint64_t offset = p - region.begin;
        if (offset >= region.size) continue;
        if (offset + size > region.size) break;
        for (uint64_t o = offset; o < offset + size; o += 4) note(region, o, now);
        return;
    }
    Dl_info info;
    if (!write && dladdr(p, &info)) return;  // a constant
    stop(write ? "writes outside of every array" : "reads outside of every array", place(pc));
}

// A GPU reads and writes 2, 4, 8 or 16 bytes only where they begin at a multiple of that many.
void aligned(const void* at, size_t size, const void* pc)
{
    if (current && reinterpret_cast<uintptr_t>(at) % size)
        stop("misaligned access of " + std::to_string(size) + " bytes", place(pc));
}

void sync_block(const char* where)
{
    ++current->barriers;
    wait(State::in_barrier, where);
}

void sync_warp(const char* where, unsigned mask)
{
    if (!(mask >> lane() & 1)) stop("the lane that calls is not in its mask", where);
    current->mask = mask;
    ++current->warp_barriers;
    wait(State::in_warp, where);
}

unsigned lane() { return current->index % 32; }
void* offer(unsigned lane) { return fibers[current->index / 32 * 32 + lane]->offer; }

// Runs call(data) once for each thread; returns null, or what went wrong.
const char* run(const unsigned* grid, const unsigned* block, unsigned seed, const Array* arrays, unsigned count,
                void (*call)(void*), void* data)
{
    const uint64_t threads = uint64_t(block[0]) * block[1] * block[2];
    if (!threads || threads > 1024 || block[2] > 64) return "invalid block size";
    if (!grid[0] || !grid[1] || !grid[2] || grid[1] > 65535 || grid[2] > 65535) return "invalid grid size";
    grid_dim = {grid[0], grid[1], grid[2]};
    block_dim = {block[0], block[1], block[2]};
    body = call;
    body_data = data;
    error.clear();
    scheduler.started = true;
    while (fibers.size() < threads) add_fiber();
    anchor = 1;
    regions.clear();
    for (unsigned i = 0; i < count; ++i) regions.push_back({arrays[i].begin, arrays[i].size, false, {}});
    regions.push_back(shared_memory());
    for (Region& r : regions) r.cells.resize(r.size / 4 + 1);
    std::vector<unsigned> order(threads), blocks(size_t(grid[0]) * grid[1] * grid[2]);
    for (auto* v : {&order, &blocks}) {
        std::iota(v->begin(), v->end(), 0);
        if (seed == 1) std::reverse(v->begin(), v->end());
        if (seed > 1) std::shuffle(v->begin(), v->end(), std::mt19937(seed));
    }
    for (unsigned b : blocks) {
        block_number = b;
        block_index = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
        run_block(order);
        if (!error.empty()) {
            fibers.clear();  // some are stuck inside the kernel
            current = nullptr;
            return error.c_str();
        }
    }
    return nullptr;
}

}  // namespace cuda_on_cpu

// What the compiler has kernels call.
#define COC_ACCESS(name, size, write)                                                \
    void __tsan_##name##size(void* p)                                                \
    {                                                                                \
        cuda_on_cpu::aligned(p, size, __builtin_return_address(0));                  \
        cuda_on_cpu::access(p, size, write, false, __builtin_return_address(0));     \
    }                                                                                \
    void __tsan_unaligned_##name##size(void* p)                                      \
    {                                                                                \
        cuda_on_cpu::access(p, size, write, false, __builtin_return_address(0));     \
    }
#define COC_ACCESSES(size) COC_ACCESS(read, size, false) COC_ACCESS(write, size, true)
extern "C" {
COC_ACCESSES(1)
COC_ACCESSES(2)
COC_ACCESSES(4)
COC_ACCESSES(8)
COC_ACCESSES(16)
void __tsan_read_range(void* p, size_t n) { cuda_on_cpu::access(p, n, false, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t n) { cuda_on_cpu::access(p, n, true, false, __builtin_return_address(0)); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}

// -fsanitize=bounds: an index outside of an array that is declared in the kernel.
void __ubsan_handle_out_of_bounds_abort(void* data, uintptr_t index)
{
    struct Location { const char* file; uint32_t line; };
    const auto* at = static_cast<Location*>(data);
    cuda_on_cpu::stop("index " + std::to_string(static_cast<intptr_t>(index)) + " outside of an array",
                      at->file + (":" + std::to_string(at->line)));
}
}
