// Local response normalisation across channels, times a window, NCHW, and its gradient.
//
// Formulas    s[c]  = k + alpha * sum over |q - c| <= R of x[q]^2
//             y[c]  = x[c] * s[c]^-beta * window
//             g[c]  = dy[c] * window
//             dx[c] = g[c] s[c]^-beta
//                     - 2 alpha beta x[c] * sum over |q - c| <= R of g[q] x[q] s[q]^-(beta + 1)
//             window: one value per pixel, the Hann window; 1 when WINDOW is false
// Paper       Sec. 4.1: the last layer, "to restrict the magnitude of feature map values".
// Layout      x, y, dy, dx: N x C x P with P = H * W; window: P
// Reference   dcfnet_np.ops.lrn: lrn_forward, lrn_backward
// Launch      lrn.py; grid = (ceil(P / 128), ceil(C / CHUNK), N), block = 128
//
// Version ladder
//   1  one thread per pixel walks all channels (the prototype): few threads for few images, x read
//      2 R + 1 times backward
//   2  (this one) a thread walks CHUNK channels and carries what the window needs in registers: x
//      is read once, plus R (forward) or 2 R (backward) channels at each end of a chunk; s is
//      recomputed backward, not stored
#include "power.cuh"

template <class T, int R, int CHUNK, bool WINDOW>
__global__ void __launch_bounds__(128)
lrn_forward(const T* __restrict__ x,       // N x C x P
            const T* __restrict__ window,  // P; not read when WINDOW is false
            T* __restrict__ y,             // N x C x P
            int C, int P, T k, T alpha, T beta)
{
    const int p = blockIdx.x * 128 + threadIdx.x;
    if (p >= P) return;
    const int first = blockIdx.y * CHUNK;
    const size_t base = static_cast<size_t>(blockIdx.z) * C * P + p;
    const T scale = WINDOW ? window[p] : T(1);

    // x of the channels first - R, ...; unrolled, only 2 R + 1 are alive at a time
    T value[CHUNK + 2 * R];
#pragma unroll
    for (int i = 0; i < CHUNK + 2 * R; ++i) {
        const int q = first + i - R;
        value[i] = q >= 0 && q < C ? x[base + static_cast<size_t>(q) * P] : T(0);
    }
#pragma unroll
    for (int i = 0; i < CHUNK; ++i) {
        if (first + i >= C) break;
        T s = T(0);
#pragma unroll
        for (int d = 0; d <= 2 * R; ++d) s += value[i + d] * value[i + d];
        const T out = value[i + R] * power(k + alpha * s, beta);
        y[base + static_cast<size_t>(first + i) * P] = WINDOW ? out * scale : out;
    }
}

template <class T, int R, int CHUNK, bool WINDOW>
__global__ void __launch_bounds__(128)
lrn_backward(const T* __restrict__ x,       // N x C x P
             const T* __restrict__ dy,      // N x C x P
             const T* __restrict__ window,  // P; not read when WINDOW is false
             T* __restrict__ dx,            // N x C x P
             int C, int P, T k, T alpha, T beta)
{
    const int p = blockIdx.x * 128 + threadIdx.x;
    if (p >= P) return;
    const int first = blockIdx.y * CHUNK;
    const size_t base = static_cast<size_t>(blockIdx.z) * C * P + p;
    const T scale = WINDOW ? window[p] : T(1);
    const T factor = T(2) * alpha * beta;

    T value[CHUNK + 4 * R];    // x of the channels first - 2 R, ...
    T direct[CHUNK + 2 * R];   // g s^-beta of the channels first - R, ...
    T through[CHUNK + 2 * R];  // g x s^-(beta + 1) of the same
#pragma unroll
    for (int i = 0; i < CHUNK + 4 * R; ++i) {
        const int q = first + i - 2 * R;
        value[i] = q >= 0 && q < C ? x[base + static_cast<size_t>(q) * P] : T(0);
    }
#pragma unroll
    for (int i = 0; i < CHUNK + 2 * R; ++i) {
        const int q = first + i - R;
        T g = q >= 0 && q < C ? dy[base + static_cast<size_t>(q) * P] : T(0);
        if (WINDOW) g *= scale;
        T s = T(0);
#pragma unroll
        for (int d = 0; d <= 2 * R; ++d) s += value[i + d] * value[i + d];
        s = k + alpha * s;
        direct[i] = g * power(s, beta);
        through[i] = direct[i] * value[i + R] / s;
    }
#pragma unroll
    for (int i = 0; i < CHUNK; ++i) {
        if (first + i >= C) break;
        T sum = T(0);
#pragma unroll
        for (int d = 0; d <= 2 * R; ++d) sum += through[i + d];
        dx[base + static_cast<size_t>(first + i) * P] =
            direct[i + R] - factor * value[i + 2 * R] * sum;
    }
}
