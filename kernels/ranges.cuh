// The smallest and the largest pixel of a window, in grey levels from 0: what tells a window that holds nothing.
#pragma once

struct Range {
    float smallest, largest;
};

// Every pixel widens it; as long as there is none it counts as flat.
__device__ __forceinline__ Range empty_range() { return {__int_as_float(0x7f800000), 0.f}; }

// Is there nothing to track? Half a grey level of tolerance: dcfnet_np.tracker.is_flat.
__device__ __forceinline__ bool is_flat(Range range) { return range.largest - range.smallest < 0.5f; }

// Widen stored = {smallest, largest} by the ranges of all 32 lanes of this warp. Pixels are not negative, and numbers
// that are not compare as the integers of the same bits, for which there are atomic operations.
__device__ __forceinline__ void widen(float* stored, Range range)
{
#pragma unroll
    for (int other = 16; other > 0; other /= 2) {
        range.smallest = fminf(range.smallest, __shfl_xor_sync(0xffffffffu, range.smallest, other));
        range.largest = fmaxf(range.largest, __shfl_xor_sync(0xffffffffu, range.largest, other));
    }
    if (threadIdx.x % 32 > 0) return;
    atomicMin(reinterpret_cast<int*>(stored), __float_as_int(range.smallest));
    atomicMax(reinterpret_cast<int*>(stored) + 1, __float_as_int(range.largest));
}
