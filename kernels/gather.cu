// A training batch: some of many uint8 crops, mirrored and in other light, as the network's input.
//
//   out[n, c, i, j] = clip((v - level) contrast + offset[c], 0, 255) - mean[c],
//   v = crops[index[n], c, i, mirror ? W - 1 - j : j],
//   (mirror, level, contrast, offset) = changes[n]
//
// With CHANGED false it is just v - mean[c].
//
// Paper: Sec. 4.1, the pairs of a batch; the changes (dcfnet_np.train.augment) are not the paper's.
// Layout: crops (count, 3, H, W) uint8; index (N); changes (N, 6), offset in the order of c;
//   mean (3); out (N, 3, H, W).
// Reference: dcfnet_np.train.plain_step.PairImages.images, to the bit: nothing fused.
// Launch: gather.py; grid = (ceil(H W / 256), N), block = 256, a thread a pixel of three channels.
//
// Version 1: the plain copy; it moves 5 bytes for a value, some thousandths of a step's time.
// Version 2, this one: the changes on the way, so that crops travel and lie as bytes.
#include "rounding.cuh"

template <class T, bool CHANGED>
__global__ void __launch_bounds__(256)
gather(const unsigned char* __restrict__ crops, const int* __restrict__ index,
       const T* __restrict__ changes,  // not read when CHANGED is false
       const T* __restrict__ mean, T* __restrict__ out, int W, int pixels)
{
    const int p = blockIdx.x * 256 + threadIdx.x;
    if (p >= pixels) return;
    const T* change = changes + 6 * blockIdx.y;
    const bool mirror = CHANGED && change[0] != T(0);
    const size_t from = static_cast<size_t>(index[blockIdx.y]) * 3 * pixels
        + (mirror ? p - p % W + W - 1 - p % W : p);
    const size_t to = static_cast<size_t>(blockIdx.y) * 3 * pixels + p;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        T value = T(crops[from + c * pixels]);
        if (CHANGED) {
            value = sum(product(sum(value, -change[1]), change[2]), change[3 + c]);
            value = value < T(0) ? T(0) : value > T(255) ? T(255) : value;
        }
        out[to + c * pixels] = value - mean[c];
    }
}
