// The network's input: windows of a frame, each scaled to size x size pixels, for all scales of all
// targets at once.
//
//   out[p, c, i, j] = bilinear(frame at x, y) - mean[c],
//   x = cx - w/2 + j w / (size-1),   y = cy - h/2 + i h / (size-1)
//
// Outside the frame are zeros (before the mean is subtracted). ROUNDED rounds to the nearest grey
// level, ties to even, as the released PyTorch code's 8-bit resampler does; the MATLAB codes do
// not. `reversed` turns BGR into RGB. The smallest and the largest value of each colour of each
// window, inside the frame and before the mean is subtracted, widen its `ranges`: who crops again
// resets them first. A window of one colour holds nothing to track, and this is how the rest of a
// step knows (ranges.cuh). The zeros outside are no content.
//
// Paper: Sec. 4.1, the search windows of the scale pyramid; the released codes' rules of sampling
//   and rounding.
// Layout: frame (H, W, 3) uint8 BGR; windows (P, 4) double: cx, cy, w, h in pixels, 0-based;
//   out (P, 3, size, size); ranges (P, 3, 2) float: smallest, largest, colours as in out.
// Launch: grid = (ceil(size / 32), ceil(size / 8), P), block = (32, 8), a thread a pixel of three
//   channels.
// Reference: dcfnet_np.vision.crop.crop_patches, to the bit: positions in double, weights and sums
//   in float, nothing fused, vertical before horizontal; ranges:
//   dcfnet_np.tracking.features.extremes_of.
//
// Version 1: one thread a pixel; for a frame in the cache the reads cost little, and the writes are
//   in order.
// Version 2, this one: the ranges, by a reduction in each warp and one atomic operation for each
//   end of a warp's.
#include "ranges.cuh"
#include "rounding.cuh"

// Bilinear interpolation along one axis: two indices and their weights. A tap that is not in
// 0 .. limit - 1 gets weight 0.
struct Taps {
    int low, high;
    float low_weight, high_weight;
    bool within;  // the position lies in 0 .. limit - 1, so nothing outside is mixed in
};

__device__ __forceinline__ Taps taps(double centre, double length, int j, int size, int limit)
{
    const double position =
        sum(centre - length / 2, product(static_cast<double>(j), length / (size - 1)));
    const double low = floor(position), fraction = position - low, last = limit - 1;
    Taps t;
    t.low_weight = low >= 0 && low < limit ? static_cast<float>(1 - fraction) : 0.f;
    t.high_weight = low >= -1 && low < last ? static_cast<float>(fraction) : 0.f;
    t.low = static_cast<int>(fmin(fmax(low, 0.), last));
    t.high = static_cast<int>(fmin(fmax(low + 1, 0.), last));
    t.within = position >= 0 && position <= last;
    return t;
}

template <class T, bool ROUNDED>
__global__ void __launch_bounds__(256)
crop(const unsigned char* __restrict__ frame, const double* __restrict__ windows,
     const T* __restrict__ mean, T* __restrict__ out, float* __restrict__ ranges,
     int height, int width, int size, int reversed)
{
    const int j = blockIdx.x * 32 + threadIdx.x, i = blockIdx.y * 8 + threadIdx.y;
    const bool in_patch = i < size && j < size;  // the others take part in the reduction
    const double* window = windows + 4 * static_cast<size_t>(blockIdx.z);
    const Taps x = taps(window[0], window[2], j, size, width);
    const Taps y = taps(window[1], window[3], i, size, height);
    const unsigned char* low = frame + 3 * static_cast<size_t>(y.low) * width;
    const unsigned char* high = frame + 3 * static_cast<size_t>(y.high) * width;
    const size_t plane = static_cast<size_t>(size) * size;
    T* to = out + 3 * plane * blockIdx.z + static_cast<size_t>(i) * size + j;
#pragma unroll
    for (int c = 0; c < COLOURS; ++c) {
        Range range = empty_range();
        if (in_patch) {
            const int from = reversed ? 2 - c : c;
            const int left = 3 * x.low + from, right = 3 * x.high + from;
            const float left_column = sum(product(float(low[left]), y.low_weight),
                                          product(float(high[left]), y.high_weight));
            const float right_column = sum(product(float(low[right]), y.low_weight),
                                           product(float(high[right]), y.high_weight));
            float pixel =
                sum(product(left_column, x.low_weight), product(right_column, x.high_weight));
            if (ROUNDED) pixel = rintf(pixel);
            to[c * plane] = T(pixel) - mean[c];
            if (x.within && y.within) range = {pixel, pixel};
        }
        widen(ranges + 2 * (COLOURS * static_cast<size_t>(blockIdx.z) + c), range);
    }
}
