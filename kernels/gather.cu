// A training batch: some of many uint8 crops, as the network's input.
//
//   out[n, c, p] = crops[index[n], c, p] - mean[c]
//
// Layout: crops (count, 3, P) uint8; index (N); mean (3); out (N, 3, P). Reference: dcfnet_np.train.loop.Batches.images.
// Launch: grid = (ceil(P / 256), N), block = 256, one thread a pixel of three channels.
//
// Version 1, and the only one so far: it moves 5 bytes for a value, some thousandths of a step's time.
template <class T>
__global__ void __launch_bounds__(256)
gather(const unsigned char* __restrict__ crops, const int* __restrict__ index, const T* __restrict__ mean,
       T* __restrict__ out, int P)
{
    const int p = blockIdx.x * 256 + threadIdx.x;
    if (p >= P) return;
    const size_t from = static_cast<size_t>(index[blockIdx.y]) * 3 * P + p;
    const size_t to = static_cast<size_t>(blockIdx.y) * 3 * P + p;
#pragma unroll
    for (int c = 0; c < 3; ++c) out[to + c * P] = T(crops[from + c * P]) - mean[c];
}
