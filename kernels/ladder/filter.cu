// Eq. 2, the filter, in two steps that a reader can take in; the third is ../dcf.cu.
//
// Formula     w[l,p] = x[l,p] conj(y[p]) / (sum over l of |x[l,p]|^2 + lambda): every bin p alone
// Layout      x and w (N, D, P) complex, y (P) complex
// Reference   dcfnet_np.ops.dcf: learn_filter
// Launch      dcfnet_np.kernels.ladder has grid and block of each
//
//   1  one thread for each bin, all channels in turn: neighbours read neighbouring numbers, but a
//      spectrum of 29 x 57 bins is 1653 threads, where a GPU wants ten thousands
//   2  one warp for each bin, a lane for each channel, the sum by shuffles: 32 times as many
//      threads, but the lanes of a warp read numbers that lie P apart, each from another line of
//      memory
//   3  ../dcf.cu: neighbouring threads on neighbouring bins again, channels shared out over eight
//      threads, which add through shared memory
#include "complex.cuh"

// Version 1.  grid = (ceil(P / 128), N), block = 128
template <class T>
__global__ void learn_filter_v1(const Complex<T>* x, const Complex<T>* y, Complex<T>* w, int D,
                                int P, T lambda)
{
    const int p = blockIdx.x * 128 + threadIdx.x;
    if (p >= P) return;
    const size_t base = static_cast<size_t>(blockIdx.y) * D * P + p;
    T energy = lambda;
    for (int l = 0; l < D; ++l) energy += norm(x[base + static_cast<size_t>(l) * P]);
    const Complex<T> factor = complex(y[p].x / energy, -y[p].y / energy);
    for (int l = 0; l < D; ++l) {
        const size_t i = base + static_cast<size_t>(l) * P;
        w[i] = multiply(x[i], factor);
    }
}

// Version 2.  grid = (ceil(P / 4), N), block = (32, 4)
template <class T>
__global__ void learn_filter_v2(const Complex<T>* x, const Complex<T>* y, Complex<T>* w, int D,
                                int P, T lambda)
{
    const int p = blockIdx.x * 4 + threadIdx.y, lane = threadIdx.x;
    if (p >= P) return;  // the whole warp, since it has one bin
    const size_t base = static_cast<size_t>(blockIdx.y) * D * P + p;
    T energy = T(0);
    for (int l = lane; l < D; l += 32) energy += norm(x[base + static_cast<size_t>(l) * P]);
    for (int half = 16; half > 0; half /= 2)
        energy += __shfl_xor_sync(0xffffffffu, energy, half);
    energy += lambda;
    const Complex<T> factor = complex(y[p].x / energy, -y[p].y / energy);
    for (int l = lane; l < D; l += 32) {
        const size_t i = base + static_cast<size_t>(l) * P;
        w[i] = multiply(x[i], factor);
    }
}
