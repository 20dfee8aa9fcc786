// The CUDA C++ language on the CPU, as far as the kernels use it: see cuda_on_cpu.cpp.
#pragma once
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct int2 { int x, y; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) double2 { double x, y; };
struct float3 { float x, y, z; };
struct alignas(16) float4 { float x, y, z, w; };
inline int2 make_int2(int x, int y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace cuda_on_cpu {

extern uint3 thread_index, block_index;
extern dim3 block_dim, grid_dim;
struct Array { char* begin; uint64_t size; };  // one that the kernel may use
const char* run(const unsigned* grid, const unsigned* block, unsigned seed, const Array* arrays, unsigned count,
                void (*call)(void*), void* data);
void sync_block(const char* where);
void sync_warp(const char* where, unsigned mask);
void access(const void* at, size_t size, bool write, bool atomic, const void* pc);
unsigned lane();
void* offer(unsigned lane);  // 32 bytes of that lane of this warp

// Every lane of the mask offers a value, then reads those of others with read(lane).
template <class T, class Read>
__attribute__((no_sanitize("thread"))) auto exchange(const char* where, unsigned mask, T value, Read read)
{
    static_assert(sizeof(T) <= 32, "");
    memcpy(offer(lane()), &value, sizeof value);
    sync_warp(where, mask);
    auto result = read([=](unsigned lane) __attribute__((no_sanitize("thread"))) {
        T v;
        if (mask >> lane & 1) memcpy(&v, offer(lane), sizeof v);
        else memset(&v, 0xff, sizeof v);  // undefined on the GPU
        return v;
    });
    sync_warp(where, mask);
    return result;
}
template <class T> T shfl_from(const char* where, unsigned mask, T v, unsigned from)
{
    return exchange(where, mask, v, [=](auto read) { return read(from); });
}
template <class T> T shfl(const char* where, unsigned mask, T v, unsigned source, unsigned width = 32)
{
    return shfl_from(where, mask, v, (lane() & ~(width - 1)) | (source & (width - 1)));
}
template <class T> T shfl_xor(const char* where, unsigned mask, T v, unsigned bits, unsigned width = 32)
{
    const unsigned from = lane() ^ bits;
    return shfl_from(where, mask, v, from / width <= lane() / width ? from : lane());
}
template <class T> T shfl_down(const char* where, unsigned mask, T v, unsigned delta, unsigned width = 32)
{
    const unsigned from = lane() + delta;
    return shfl_from(where, mask, v, from / width == lane() / width ? from : lane());
}
template <class T> T shfl_up(const char* where, unsigned mask, T v, unsigned delta, unsigned width = 32)
{
    const unsigned from = lane() - delta;
    return shfl_from(where, mask, v, from / width == lane() / width ? from : lane());
}
inline unsigned ballot(const char* where, unsigned mask, bool predicate)
{
    return exchange(where, mask, predicate, [=](auto read) {
        unsigned all = 0;
        for (unsigned lane = 0; lane < 32; ++lane)
            if (mask >> lane & 1) all |= unsigned(read(lane)) << lane;
        return all;
    });
}

template <class To, class From> __attribute__((no_sanitize("thread"))) To same_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

// cvt.rna.tf32.f32: to 10 bits of fraction, to nearest, ties away from zero.
inline unsigned to_tf32(float x)
{
    const unsigned bits = same_bits<unsigned>(x);
    return (bits >> 23 & 255) == 255 ? bits : (bits + 0x1000) & ~0x1fffu;
}

// mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32, d += a b. The tensor core does not look at the 13 low bits of a
// factor. How it rounds its sums is not modelled.
struct Fragments { unsigned a[4], b[2]; };
__attribute__((no_sanitize("thread"))) inline void mma_m16n8k8_tf32(const char* where, float (&d)[4],
                                                                    const unsigned (&a)[4], const unsigned (&b)[2])
{
    const Fragments mine{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    exchange(where, 0xffffffffu, mine, [&](auto read) __attribute__((no_sanitize("thread"))) {
        const unsigned row = lane() / 4, column = lane() % 4 * 2;
        double sum[4] = {};
        for (unsigned k = 0; k < 8; ++k)
            for (unsigned i = 0; i < 4; ++i) {
                const Fragments of_row = read(row * 4 + k % 4), of_column = read((column + i % 2) * 4 + k % 4);
                sum[i] += double(same_bits<float>(of_row.a[i / 2 + k / 4 * 2] & ~0x1fffu)) *
                          double(same_bits<float>(of_column.b[k / 4] & ~0x1fffu));
            }
        for (unsigned i = 0; i < 4; ++i) d[i] = float(d[i] + sum[i]);
        return 0;
    });
}

template <class T, class F> __attribute__((no_sanitize("thread"), noinline)) T atomic(T* p, F f)
{
    access(p, sizeof *p, true, true, __builtin_return_address(0));
    const T old = *p;
    *p = f(old);
    return old;
}

// Kernels are called with cuLaunchKernel's array of pointers to the arguments.
template <class... P> struct Call {
    void (*kernel)(P...);
    void** args;
    __attribute__((no_sanitize("thread"))) static void run(void* self) { apply(self, std::index_sequence_for<P...>()); }
    template <size_t... I>
    __attribute__((no_sanitize("thread"))) static void apply(void* self, std::index_sequence<I...>)
    {
        auto& c = *static_cast<Call*>(self);
        c.kernel(*static_cast<std::remove_cv_t<P>*>(c.args[I])...);
    }
};
template <class... P>
const char* launch(void (*kernel)(P...), const unsigned* grid, const unsigned* block, unsigned seed,
                   const Array* arrays, unsigned count, void** args)
{
    Call<P...> call{kernel, args};
    return run(grid, block, seed, arrays, count, call.run, &call);
}

// The parameters' types as NumPy writes them ("i4", "f4", "c8"), with a "P" before if it is a pointer.
template <class T> int put_type(char* text)
{
    using U = std::remove_cv_t<std::remove_pointer_t<T>>;
    const char kind = std::is_same_v<U, float2>       ? 'c'
                      : std::is_same_v<U, double2>    ? 'c'
                      : std::is_same_v<U, bool>       ? 'b'
                      : std::is_floating_point_v<U>   ? 'f'
                      : std::is_unsigned_v<U>         ? 'u'
                      : std::is_integral_v<U>         ? 'i'
                                                      : 'V';
    return sprintf(text, "%s%c%d ", std::is_pointer_v<T> ? "P" : "", kind, int(sizeof(U)));
}
template <class... P> const char* signature(void (*)(P...))
{
    static char text[sizeof...(P) * 8 + 1];
    int n = 0;
    ((n += put_type<P>(text + n)), ...);
    return text;
}

}  // namespace cuda_on_cpu

#define CUDA_ON_CPU_KERNEL(id, ...)                                                                                   \
    extern "C" __attribute__((visibility("default"))) const char* launch_##id(                                        \
        const unsigned* grid, const unsigned* block, unsigned seed, const cuda_on_cpu::Array* a, unsigned n, void** v) \
    { return cuda_on_cpu::launch(&__VA_ARGS__, grid, block, seed, a, n, v); }                                         \
    extern "C" __attribute__((visibility("default"))) const char* signature_##id()                                    \
    { return cuda_on_cpu::signature(&__VA_ARGS__); }

#define threadIdx (std::as_const(cuda_on_cpu::thread_index))
#define blockIdx (std::as_const(cuda_on_cpu::block_index))
#define blockDim (std::as_const(cuda_on_cpu::block_dim))
#define gridDim (std::as_const(cuda_on_cpu::grid_dim))
constexpr int warpSize = 32;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ thread_local  // one piece of memory, which the engine can find

#define COC_TEXT2(x) #x
#define COC_TEXT(x) COC_TEXT2(x)
#define COC_HERE __FILE__ ":" COC_TEXT(__LINE__)
#define __syncthreads() cuda_on_cpu::sync_block(COC_HERE)
#define __syncwarp(mask) cuda_on_cpu::sync_warp(COC_HERE, mask)
#define __shfl_sync(...) cuda_on_cpu::shfl(COC_HERE, __VA_ARGS__)
#define __shfl_xor_sync(...) cuda_on_cpu::shfl_xor(COC_HERE, __VA_ARGS__)
#define __shfl_down_sync(...) cuda_on_cpu::shfl_down(COC_HERE, __VA_ARGS__)
#define __shfl_up_sync(...) cuda_on_cpu::shfl_up(COC_HERE, __VA_ARGS__)
#define __ballot_sync(mask, p) cuda_on_cpu::ballot(COC_HERE, mask, p)
#define __any_sync(mask, p) (cuda_on_cpu::ballot(COC_HERE, mask, p) != 0)
#define __all_sync(mask, p) (cuda_on_cpu::ballot(COC_HERE, mask, p) == (mask))

template <class T> T max(T a, T b) { return a < b ? b : a; }
template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T __ldg(const T* p) { return *p; }
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline int __float_as_int(float x) { return cuda_on_cpu::same_bits<int>(x); }
inline float __int_as_float(int x) { return cuda_on_cpu::same_bits<float>(x); }
template <class T> T atomicAdd(T* p, std::common_type_t<T> v)
{
    return cuda_on_cpu::atomic(p, [=](T old) -> T { return old + v; });
}
template <class T> T atomicMax(T* p, std::common_type_t<T> v)
{
    return cuda_on_cpu::atomic(p, [=](T old) { return max(old, v); });
}
template <class T> T atomicMin(T* p, std::common_type_t<T> v)
{
    return cuda_on_cpu::atomic(p, [=](T old) { return min(old, v); });
}
