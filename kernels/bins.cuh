// Sums over channels, bin by bin: block = (BINS, GROUPS), neighbouring threads on neighbouring
// bins, channels shared out over threadIdx.y and summed through shared memory.
#pragma once

constexpr int BINS = 32, GROUPS = 8;

// The sum of `value` over the eight threads of a bin, for all of them.
template <class T> __device__ __forceinline__ T sum_groups(T value)
{
    __shared__ T part[GROUPS][BINS];
    __syncthreads();  // the last sum has been read
    part[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    T sum = part[0][threadIdx.x];
#pragma unroll
    for (int i = 1; i < GROUPS; ++i) sum += part[i][threadIdx.x];
    return sum;
}
