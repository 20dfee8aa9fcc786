// The smallest and the largest value of each colour in a window, in grey levels from 0, of the
// pixels inside the frame: what tells a window that holds nothing. Stored as COLOURS pairs a
// window.
#pragma once

struct Range {
    float smallest, largest;
};

constexpr int COLOURS = 3;

// Every pixel widens it; as long as there is none it counts as flat.
__device__ __forceinline__ Range empty_range() { return {__int_as_float(0x7f800000), 0.f}; }

__device__ __forceinline__ void store_empty(float* stored)
{
    stored[0] = empty_range().smallest;
    stored[1] = empty_range().largest;
}

// Is there nothing to track in these windows? Half a grey level of tolerance:
// dcfnet_np.tracking.features.is_flat.
__device__ __forceinline__ bool is_flat(const float* ranges, int windows)
{
    for (int colour = 0; colour < COLOURS; ++colour) {
        Range range = empty_range();
        for (int window = 0; window < windows; ++window) {
            const float* stored = ranges + 2 * (COLOURS * window + colour);
            range.smallest = fminf(range.smallest, stored[0]);
            range.largest = fmaxf(range.largest, stored[1]);
        }
        if (range.largest - range.smallest >= 0.5f) return false;
    }
    return true;
}

// Widen stored = {smallest, largest} by the ranges of all 32 lanes of this warp. Pixels are not
// negative, and numbers that are not compare as the integers of the same bits, for which there are
// atomic operations.
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
