// The correlation filter layer in the Fourier domain (Eqs. 2, 3, 7, 9, 10, 11, 13) and the response
// loss (Eq. 4). Every frequency bin p is on its own; the only coupling is the sum over the
// D channels l:
//
//   k[p]    = sum_l |x[l,p]|^2 + lambda                     energy
//   w[l,p]  = x[l,p] conj(y[p]) / k[p]                      Eq. 2, the filter
//   g[p]    = sum_l conj(w[l,p]) z[l,p]                     Eq. 3, the response
//   dz[l,p] = G[p] w[l,p]                                   Eq. 7, G = rfft2(dL/dg) (Eq. 6)
//   dx[l,p] = (conj(G) y z[l] - 2 x[l] Re(conj(G) g)) / k   Eq. 10 plus the conjugate of Eq. 9:
//                                                           what Eq. 11 transforms
//
// Layout: x (template), z (search), w and their gradients (N, D, P) complex; y (P) complex;
//   g, G (N, P) complex; k (N, P) real. P counts bins: a half spectrum's or a band's.
// Reference: dcfnet_np.ops.dcf, dcfnet_np.filter.
// Launch of the kernels that sum over channels: grid = (ceil(P / 32), N), block = (32, 8);
//   neighbouring threads on neighbouring bins, channels shared out over threadIdx.y and summed
//   through shared memory.
//
// Version 1: one thread a bin, all channels in turn: too few threads for one target.
// Version 2: one warp a bin, lane = channel, shuffles: reads 32 lines of memory for 32 numbers.
// Version 3: this one.
#include "bins.cuh"
#include "complex.cuh"
#include "ranges.cuh"

// Eq. 2. Reads x twice; the second time it comes from the cache.
template <class T>
__global__ void __launch_bounds__(BINS * GROUPS)
learn_filter(const Complex<T>* __restrict__ x, const Complex<T>* __restrict__ y,
             Complex<T>* __restrict__ w, T* __restrict__ k, int D, int P, T lambda)
{
    const int p = blockIdx.x * BINS + threadIdx.x;
    const size_t base = static_cast<size_t>(blockIdx.y) * D * P + p;
    T energy = T(0);
    if (p < P)
        for (int l = threadIdx.y; l < D; l += GROUPS)
            energy += norm(x[base + static_cast<size_t>(l) * P]);
    energy = sum_groups(energy) + lambda;
    if (p >= P) return;
    const Complex<T> factor = complex(y[p].x / energy, -y[p].y / energy);
    for (int l = threadIdx.y; l < D; l += GROUPS) {
        const size_t i = base + static_cast<size_t>(l) * P;
        w[i] = multiply(x[i], factor);
    }
    if (threadIdx.y == 0) k[static_cast<size_t>(blockIdx.y) * P + p] = energy;
}

// Eq. 3 with a kept model: g[n,p] = gain[t,p] sum_l conj(model[t,l,p]) z[n,l,p], t = n / scales.
template <class T>
__global__ void __launch_bounds__(BINS * GROUPS)
respond(const Complex<T>* __restrict__ model, const Complex<T>* __restrict__ gain,
        const Complex<T>* __restrict__ z, Complex<T>* __restrict__ g, int D, int P, int scales)
{
    const int p = blockIdx.x * BINS + threadIdx.x, n = blockIdx.y, target = n / scales;
    const size_t of_z = static_cast<size_t>(n) * D * P + p;
    const size_t of_model = static_cast<size_t>(target) * D * P + p;
    Complex<T> sum = complex(T(0), T(0));
    if (p < P)
        for (int l = threadIdx.y; l < D; l += GROUPS) {
            const size_t channel = static_cast<size_t>(l) * P;
            const Complex<T> term = multiply_conj(model[of_model + channel], z[of_z + channel]);
            sum.x += term.x;
            sum.y += term.y;
        }
    sum.x = sum_groups(sum.x);
    sum.y = sum_groups(sum.y);
    if (p < P && threadIdx.y == 0)
        g[static_cast<size_t>(n) * P + p] =
            multiply(gain[static_cast<size_t>(target) * P + p], sum);
}

// The online update of target t with rate[t]; 0 leaves it alone and 1 (the first frame) forgets
// what was there. A flat window (ranges.cuh) leaves it alone too.
//
// Both rules keep model = the running average of x and answer with gain * sum conj(model) z. They
// differ in the gain:
//   RATIO false, the released codes: the running average of y / k
//   RATIO true, Eq. 13: y / (the running average of k), so that model conj(y) is its numerator
template <class T, bool RATIO>
__global__ void __launch_bounds__(BINS * GROUPS)
update_model(const Complex<T>* __restrict__ x,  // (T, D, P)
             const Complex<T>* __restrict__ y,  // (P)
             const T* __restrict__ rate,        // (T)
             const float* __restrict__ ranges,  // (T, 3, 2), of the pixels behind x
             Complex<T>* __restrict__ model,    // (T, D, P)
             Complex<T>* __restrict__ gain,     // (T, P)
             T* __restrict__ energy,            // (T, P), the running average of k
             int D, int P, T lambda)
{
    const int p = blockIdx.x * BINS + threadIdx.x;
    const T now = rate[blockIdx.y], before = T(1) - now;
    if (now == T(0) || is_flat(ranges + 2 * COLOURS * blockIdx.y, 1)) return;
    const bool first = now == T(1);
    const size_t base = static_cast<size_t>(blockIdx.y) * D * P + p;
    T sum = T(0);
    if (p < P)
        for (int l = threadIdx.y; l < D; l += GROUPS) {
            const size_t i = base + static_cast<size_t>(l) * P;
            const Complex<T> v = x[i];
            sum += norm(v);
            if (first) model[i] = v;
            else model[i] = complex(before * model[i].x + now * v.x,
                                    before * model[i].y + now * v.y);
        }
    sum = sum_groups(sum) + lambda;
    if (p >= P || threadIdx.y > 0) return;
    const size_t i = static_cast<size_t>(blockIdx.y) * P + p;
    const T average = first ? sum : before * energy[i] + now * sum;
    energy[i] = average;
    if (RATIO || first) gain[i] = complex(y[p].x / average, y[p].y / average);
    else gain[i] = complex(before * gain[i].x + now * (y[p].x / sum),
                           before * gain[i].y + now * (y[p].y / sum));
}

// Eqs. 2 and 3 for training: the response to z of the filter learnt on x, never written out.
template <class T>
__global__ void __launch_bounds__(BINS * GROUPS)
dcf_forward(const Complex<T>* __restrict__ x, const Complex<T>* __restrict__ z,
            const Complex<T>* __restrict__ y, Complex<T>* __restrict__ g, T* __restrict__ k,
            int D, int P, T lambda)
{
    const int p = blockIdx.x * BINS + threadIdx.x;
    const size_t base = static_cast<size_t>(blockIdx.y) * D * P + p;
    T energy = T(0);
    Complex<T> sum = complex(T(0), T(0));
    if (p < P)
        for (int l = threadIdx.y; l < D; l += GROUPS) {
            const size_t i = base + static_cast<size_t>(l) * P;
            const Complex<T> v = x[i], term = multiply_conj(v, z[i]);
            energy += norm(v);
            sum.x += term.x;
            sum.y += term.y;
        }
    energy = sum_groups(energy) + lambda;
    sum.x = sum_groups(sum.x);
    sum.y = sum_groups(sum.y);
    if (p >= P || threadIdx.y > 0) return;
    const size_t i = static_cast<size_t>(blockIdx.y) * P + p;
    const Complex<T> r = multiply(y[p], sum);
    k[i] = energy;
    g[i] = complex(r.x / energy, r.y / energy);
}

// Eqs. 7, 9, 10 and the sum in Eq. 11, in one pass.
//
// grid = (ceil(P / 128), N), block = 128
template <class T>
__global__ void __launch_bounds__(128)
dcf_backward(const Complex<T>* __restrict__ x, const Complex<T>* __restrict__ z,
             const Complex<T>* __restrict__ y, const Complex<T>* __restrict__ g,
             const T* __restrict__ k, const Complex<T>* __restrict__ G,
             Complex<T>* __restrict__ dx, Complex<T>* __restrict__ dz, int D, int P)
{
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= P) return;
    const size_t of_n = static_cast<size_t>(blockIdx.y) * P + p;
    const T inverse = T(1) / k[of_n];
    const Complex<T> a = multiply_conj(G[of_n], y[p]);         // conj(G) y
    const T twice = T(2) * multiply_conj(G[of_n], g[of_n]).x;  // 2 Re(conj(G) g)
    for (int l = 0; l < D; ++l) {
        const size_t i = (static_cast<size_t>(blockIdx.y) * D + l) * P + p;
        const Complex<T> xv = x[i], az = multiply(a, z[i]);
        const Complex<T> w = multiply_conj(a, xv);  // G conj(y) x
        dx[i] = complex((az.x - twice * xv.x) * inverse, (az.y - twice * xv.y) * inverse);
        dz[i] = complex(w.x * inverse, w.y * inverse);
    }
}

// Eq. 4's data term and its gradient: loss[n] = share[n] sum (g - label)^2 of one map,
// dg = 2 share[n] (g - label). The loss is the mean over maps when every share is 1/N; a share of 0
// takes a map out of it. A map whose sum is over the limit has no gradient. The label is (H, W) for
// all maps (per_map 0) or one a map (per_map 1).
//
// grid = (N), block = 256
template <class T>
__global__ void __launch_bounds__(256)
response_loss(const T* __restrict__ g, const T* __restrict__ label, const T* __restrict__ shares,
              T* __restrict__ loss, T* __restrict__ dg, int pixels, int per_map, T limit)
{
    __shared__ T part[256];
    const size_t base = static_cast<size_t>(blockIdx.x) * pixels;
    const T* wanted = per_map ? label + base : label;
    const T share = shares[blockIdx.x];
    T sum = T(0);
    for (int i = threadIdx.x; i < pixels; i += 256) {
        const T residual = g[base + i] - wanted[i];
        sum += residual * residual;
    }
    part[threadIdx.x] = sum;
    for (int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < half) part[threadIdx.x] += part[threadIdx.x + half];
    }
    __syncthreads();
    const T factor = part[0] > limit ? T(0) : T(2) * share;
    for (int i = threadIdx.x; i < pixels; i += 256)
        dg[base + i] = factor * (g[base + i] - wanted[i]);
    if (threadIdx.x == 0) loss[blockIdx.x] = share * part[0];
}
