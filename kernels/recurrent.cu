// The filter through the frames of a clip (Eq. 13 as a recurrent cell), forward and back. Every
// frequency bin p of every clip n is on its own; the only coupling is the sum over the channels l.
//
//   x_t[l] = turn_t s_t[l]                       frame t's spectrum, its target moved to (0, 0)
//   k_t    = sum_l |x_t[l]|^2 + lambda           energy
//   A, B   = (1 - beta) A, B + beta newest       the state; beta is 1 in the first step
//            newest: conj(y) x_t, k_t            RATIO, Eq. 13
//                    x_t, y / k_t                the released codes' averages
//   q_t    = sum_l conj(A[l]) s_{t+1}[l]
//   g_t    = q_t / B, or q_t B                   the response in frame t + 1
//
// The way back is that of ops.recurrent, step by step, the last one first.
//
// Layout: spectra and their gradients (S + 1, N, D, P) complex, S steps of N clips; y (P); A
//   (S, N, D, P), B and g (S, N, P) complex. P = rows x columns of a band or half spectrum.
// Reference: dcfnet_np.ops.recurrent.
// Launch: grid = (ceil(P / 32), N), block = (32, 8), see bins.cuh.
//
// Version 1: this one, the launch of dcf.cu, all steps in one kernel; the state is in memory, since
//   the way back needs that of every step. Not measured on a GPU.
#include "bins.cuh"
#include "complex.cuh"

// What the image's move by -place does to bin p: exp(2 pi i (u row / H + v column / W)).
// turns_h[k] = exp(2 pi i k / H), turns_w likewise.
template <class T> struct Turns {
    const Complex<T>* turns_h;
    const Complex<T>* turns_w;
    int height, width, rows, columns;

    __device__ Complex<T> of(int p, const int* place) const
    {
        const int row = p / columns, v = p % columns;
        const int u = row > rows / 2 ? row - rows : row;
        int i = u * place[0] % height, j = v * place[1] % width;
        if (i < 0) i += height;
        if (j < 0) j += width;
        return multiply(turns_h[i], turns_w[j]);
    }
};

template <class T>
__device__ __forceinline__ Complex<T> blend(T rate, Complex<T> old, Complex<T> now)
{
    return complex((T(1) - rate) * old.x + rate * now.x, (T(1) - rate) * old.y + rate * now.y);
}

// The sum over a bin's threads of a complex number.
template <class T> __device__ __forceinline__ Complex<T> sum_complex(Complex<T> value)
{
    const T re = sum_groups(value.x), im = sum_groups(value.y);
    return complex(re, im);
}

template <class T, bool RATIO>
__global__ void __launch_bounds__(BINS * GROUPS)
clip_forward(const Complex<T>* __restrict__ spectra, const Complex<T>* __restrict__ y,
             const T* __restrict__ numbers,   // lambda, beta
             const int* __restrict__ places,  // (S, N, 2), of the target in frames 0 to S - 1
             const Complex<T>* __restrict__ turns_h, const Complex<T>* __restrict__ turns_w,
             Complex<T>* __restrict__ a, Complex<T>* __restrict__ b, Complex<T>* __restrict__ g,
             int S, int D, int rows, int columns, int height, int width)
{
    const int N = gridDim.y, n = blockIdx.y, P = rows * columns;
    const int p = blockIdx.x * BINS + threadIdx.x;
    const Turns<T> turns = {turns_h, turns_w, height, width, rows, columns};
    const Complex<T> zero = complex(T(0), T(0)), label = p < P ? y[p] : zero;
    const size_t frame = static_cast<size_t>(N) * D * P;
    Complex<T> state = zero;
    for (int t = 0; t < S; ++t) {
        const T rate = t ? numbers[1] : T(1);
        const size_t base = t * frame + static_cast<size_t>(n) * D * P + p;
        T energy = T(0);
        Complex<T> products = zero;
        if (p < P) {
            const Complex<T> turn = turns.of(p, places + 2 * (t * N + n));
            for (int l = threadIdx.y; l < D; l += GROUPS) {
                const size_t i = base + static_cast<size_t>(l) * P;
                const Complex<T> x = multiply(turn, spectra[i]);
                const Complex<T> newest = RATIO ? multiply_conj(label, x) : x;
                const Complex<T> mean = t ? blend(rate, a[i - frame], newest) : newest;
                const Complex<T> term = multiply_conj(mean, spectra[i + frame]);
                a[i] = mean;
                energy += norm(x);
                products = complex(products.x + term.x, products.y + term.y);
            }
        }
        energy = sum_groups(energy) + numbers[0];
        products = sum_complex<T>(products);
        const Complex<T> newest =
            RATIO ? complex(energy, T(0)) : complex(label.x / energy, label.y / energy);
        state = t ? blend(rate, state, newest) : newest;
        if (p >= P || threadIdx.y > 0) continue;
        const size_t i = static_cast<size_t>(t * N + n) * P + p;
        b[i] = state;
        g[i] = RATIO ? complex(products.x / state.x, products.y / state.x)
                     : multiply(products, state);
    }
}

// dg: the gradient by the responses' spectra (S, N, P). losses, shares (S, N): of `response_loss`;
// a clip whose mean loss is over the limit has gradients of zeros. later (N, D, P): room.
// by_lambda, by_rate (N, P) and by_label (N, P) complex: the bins' parts, of all steps together.
template <class T, bool RATIO>
__global__ void __launch_bounds__(BINS * GROUPS)
clip_backward(const Complex<T>* __restrict__ spectra, const Complex<T>* __restrict__ y,
              const T* __restrict__ numbers, const int* __restrict__ places,
              const Complex<T>* __restrict__ turns_h, const Complex<T>* __restrict__ turns_w,
              const Complex<T>* __restrict__ a, const Complex<T>* __restrict__ b,
              const Complex<T>* __restrict__ g, const Complex<T>* __restrict__ dg,
              const T* __restrict__ losses, const T* __restrict__ shares,
              Complex<T>* __restrict__ dspectra, Complex<T>* __restrict__ later,
              T* __restrict__ by_lambda, T* __restrict__ by_rate, Complex<T>* __restrict__ by_label,
              int S, int D, int rows, int columns, int height, int width, T limit)
{
    const int N = gridDim.y, n = blockIdx.y, P = rows * columns;
    const int p = blockIdx.x * BINS + threadIdx.x;
    const Turns<T> turns = {turns_h, turns_w, height, width, rows, columns};
    const Complex<T> zero = complex(T(0), T(0)), label = p < P ? y[p] : zero;
    const size_t frame = static_cast<size_t>(N) * D * P;
    const size_t of_clip = static_cast<size_t>(n) * D * P + p;
    T loss = T(0), share = T(0), dlambda = T(0), drate = T(0);
    for (int t = 0; t < S; ++t) {
        loss += losses[t * N + n];
        share += shares[t * N + n];
    }
    const bool over = loss > limit * share;
    Complex<T> dlabel = zero, later_b = zero;  // by the state's B, of all later steps
    for (int t = S - 1; t >= 0; --t) {
        const T rate = t ? numbers[1] : T(1);
        const size_t of_bin = static_cast<size_t>(t * N + n) * P + p;
        const bool mine = p < P, counts = mine && !over;
        const Complex<T> upstream = counts ? dg[of_bin] : zero;
        const Complex<T> state = mine ? b[of_bin] : complex(T(1), T(0));
        const Complex<T> turn = mine ? turns.of(p, places + 2 * (t * N + n)) : zero;
        const Complex<T> dproducts =
            RATIO ? complex(upstream.x / state.x, upstream.y / state.x)
                  : multiply_conj(state, upstream);
        T energy = T(0), by_blend = T(0);
        Complex<T> products = zero, by_y = zero;
        if (mine)
            for (int l = threadIdx.y; l < D; l += GROUPS) {
                const size_t channel = static_cast<size_t>(l) * P;
                const size_t i = t * frame + of_clip + channel, of_later = of_clip + channel;
                const Complex<T> x = multiply(turn, spectra[i]), mean = a[i];
                const Complex<T> z = spectra[i + frame];
                // by the search: Eq. 7. What this frame adds as a template is there already.
                const Complex<T> dz = multiply(dproducts, mean);
                const Complex<T> other = t < S - 1 ? dspectra[i + frame] : zero;
                dspectra[i + frame] = complex(other.x + dz.x, other.y + dz.y);
                // by the state: of this response, and of all later ones
                const Complex<T> own = multiply_conj(dproducts, z);
                const Complex<T> after = t < S - 1 ? later[of_later] : zero;
                const Complex<T> da = complex(own.x + after.x, own.y + after.y);
                later[of_later] = complex((T(1) - rate) * da.x, (T(1) - rate) * da.y);
                const Complex<T> dnewest = complex(rate * da.x, rate * da.y);
                // by the template
                const Complex<T> newest = RATIO ? multiply_conj(label, x) : x;
                if (t) {
                    const Complex<T> before = a[i - frame];
                    by_blend += da.x * (newest.x - before.x) + da.y * (newest.y - before.y);
                }
                const Complex<T> dx = RATIO ? multiply(dnewest, label) : dnewest;
                dspectra[i] = multiply_conj(turn, dx);
                energy += norm(x);
                const Complex<T> term = RATIO ? multiply_conj(dnewest, x) : multiply_conj(mean, z);
                if (RATIO) by_y = complex(by_y.x + term.x, by_y.y + term.y);
                else products = complex(products.x + term.x, products.y + term.y);
            }
        energy = sum_groups(energy) + numbers[0];
        by_blend = sum_groups(by_blend);
        by_y = sum_complex<T>(by_y);
        products = sum_complex<T>(products);
        // by B: -Re(conj(dg) g) / B, or dg conj(q)
        Complex<T> db = multiply_conj(products, upstream);
        if (RATIO) {
            const Complex<T> response = mine ? g[of_bin] : zero;
            db = complex(-multiply_conj(upstream, response).x / state.x, T(0));
        }
        db = complex(db.x + later_b.x, db.y + later_b.y);
        later_b = complex((T(1) - rate) * db.x, (T(1) - rate) * db.y);
        const Complex<T> dnewest = complex(rate * db.x, rate * db.y);
        const Complex<T> newest =
            RATIO ? complex(energy, T(0)) : complex(label.x / energy, label.y / energy);
        if (t) {
            const Complex<T> before = mine ? b[of_bin - static_cast<size_t>(N) * P] : zero;
            drate += by_blend + db.x * (newest.x - before.x) + db.y * (newest.y - before.y);
        }
        if (!RATIO) by_y = complex(dnewest.x / energy, dnewest.y / energy);
        dlabel = complex(dlabel.x + by_y.x, dlabel.y + by_y.y);
        const T denergy =
            RATIO ? dnewest.x : -multiply_conj(dnewest, label).x / (energy * energy);
        dlambda += denergy;
        if (mine)  // the energy's share of the template's gradient, 2 dk x, moved back
            for (int l = threadIdx.y; l < D; l += GROUPS) {
                const size_t i = t * frame + of_clip + static_cast<size_t>(l) * P;
                const Complex<T> s = spectra[i], dx = dspectra[i];
                dspectra[i] = complex(dx.x + T(2) * denergy * s.x, dx.y + T(2) * denergy * s.y);
            }
    }
    if (p >= P || threadIdx.y > 0) return;
    const size_t i = static_cast<size_t>(n) * P + p;
    by_lambda[i] = dlambda;
    by_rate[i] = drate;
    by_label[i] = dlabel;
}
