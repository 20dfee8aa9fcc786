// The band-limited Fourier transform of real images, straight to the kept bins, and its inverse (Eqs. 5, 6, 8, 11).
//
//   X[u, v] = sum over r, s of x[r, s] exp(-2 pi i (u r / H + v s / W))          u = 0..KU, -KU..-1,  v = 0..KV
//   x[r, s] = 1/(HW) sum over v of c_v Re(exp(2 pi i v s / W) sum over u of X[u, v] exp(2 pi i u r / H))
//   c_v = 1 for v = 0, else 2 (a band has 2 KV + 1 <= W, so no other kept column is its own mirror image)
//
// Layout: images (M, H, W) real; half-transformed (M, H, KV + 1) complex; spectra (M, 2 KU + 1, KV + 1) complex.
// Reference: dcfnet_np.ops.fourier.rfft2 / irfft2 with a Band.
//
// Each direction is two matrix products, along s and along r. In all four the inner index k pairs with its mirror
// image L - k: the cosine is the same there and the sine the negative, so with
//   even = a[k] + a[L-k],  odd = a[k] - a[L-k]:    P[j] = sum_k cos(kj) even[k],   Q[j] = sum_k sin(kj) odd[k]
// for k = 0..L/2 only, and output j and its mirror image are P and Q added and subtracted. That halves the sums over
// images and the sums that make images. One core, `fold_product`, does the four; the kernels differ in how they read
// even and odd and in what they do with P and Q:
//
//   kernel            rows of the product       k          j          even, odd of k              out
//   rows_forward      image rows (m, r)         s = 0..W/2 v = 0..KV  x[s] +- x[W-s]              P - iQ
//   columns_forward   (m, v, Re or Im)          r = 0..H/2 u = 0..KU  A[r] +- A[H-r]              [u] P - iQ, [-u] P + iQ
//   columns_inverse   (m, v, Re or Im)          u = 0..KU  r = 0..H/2 X[u] +- X[-u]               [r] P + iQ, [H-r] P - iQ
//   rows_inverse      image rows (m, r)         v = 0..KV  s = 0..W/2 Re B[v], Im B[v]            [s] P - Q,  [W-s] P + Q
//
// Launch: grid = (ceil(rows / (16 TM)), ceil(J / 32)), block = 128. A block makes 16 TM rows by 32 columns of P and Q,
// a thread TM by 4 of each; tiles of 16 k go through shared memory. TM is 2, 4 or 8 (see dft.py). `table` is (k, j)
// with (cos, sin) in each entry.
//
// Version 1: one thread an output bin, sums straight from memory. Version 2: shared-memory tiles. Version 3: register
// tiles of TM by 4. Version 4, this one: mirror images folded, half the arithmetic.
#include "complex.cuh"

constexpr int THREADS = 128;  // 16 groups of rows by 8 groups of columns
constexpr int TN = 4;         // columns of P and Q that a thread makes
constexpr int COLUMNS = 8 * TN;
constexpr int DEPTH = 16;     // k in a tile

template <class T, int TM> struct Tiles {
    static constexpr int ROWS = 16 * TM;
    // four more than ROWS: keeps rows 16-byte aligned and spreads the transposing writes over the banks
    alignas(16) T even[DEPTH][ROWS + 4];
    alignas(16) T odd[DEPTH][ROWS + 4];
    alignas(16) T cosine[DEPTH][COLUMNS];
    alignas(16) T sine[DEPTH][COLUMNS];
};

template <class T, int TM> struct Sums {
    T p[TM][TN], q[TM][TN];
};

// N neighbours of shared memory in as few reads as possible; `from` is aligned to their size, at most 16 bytes.
template <class T, int N> __device__ __forceinline__ void read(T (&to)[N], const T* from)
{
    constexpr int CHUNK = sizeof(T) * N < 16 ? N : 16 / sizeof(T);
    struct alignas(sizeof(T) * CHUNK) Chunk { T v[CHUNK]; };
#pragma unroll
    for (int i = 0; i < N; i += CHUNK) {
        const Chunk c = *reinterpret_cast<const Chunk*>(from + i);
#pragma unroll
        for (int l = 0; l < CHUNK; ++l) to[i + l] = c.v[l];
    }
}

// P and Q of this thread's rows and columns. `fill(k0)` puts even and odd of k0..k0+15, zero past the end, into tiles.
template <class T, int TM, class Fill>
__device__ __forceinline__ Sums<T, TM> fold_product(Tiles<T, TM>& tiles, const Complex<T>* __restrict__ table,
                                                    int inner, int columns, Fill fill)
{
    const int t = threadIdx.x, row = t / 8 * TM, column = t % 8 * TN;
    const int column0 = blockIdx.y * COLUMNS;
    Sums<T, TM> sums;
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int j = 0; j < TN; ++j) sums.p[i][j] = sums.q[i][j] = T(0);

    for (int k0 = 0; k0 < inner; k0 += DEPTH) {
        fill(k0);
#pragma unroll
        for (int i = t; i < DEPTH * COLUMNS; i += THREADS) {
            const int k = i / COLUMNS, j = i % COLUMNS;
            Complex<T> entry = complex(T(0), T(0));
            if (k0 + k < inner && column0 + j < columns)
                entry = table[static_cast<size_t>(k0 + k) * columns + column0 + j];
            tiles.cosine[k][j] = entry.x;
            tiles.sine[k][j] = entry.y;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            T even[TM], odd[TM], cosine[TN], sine[TN];
            read(even, &tiles.even[k][row]);
            read(odd, &tiles.odd[k][row]);
            read(cosine, &tiles.cosine[k][column]);
            read(sine, &tiles.sine[k][column]);
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) {
                    sums.p[i][j] += even[i] * cosine[j];
                    sums.q[i][j] += odd[i] * sine[j];
                }
        }
        __syncthreads();
    }
    return sums;
}

template <class T, int TM>
__global__ void __launch_bounds__(THREADS)
rows_forward(const T* __restrict__ x,               // rows x W
             const Complex<T>* __restrict__ table,  // W/2 + 1 x columns
             Complex<T>* __restrict__ out,          // rows x columns
             int rows, int W, int columns)
{
    __shared__ Tiles<T, TM> tiles;
    const int t = threadIdx.x, row0 = blockIdx.x * tiles.ROWS, inner = W / 2 + 1;
    const Sums<T, TM> sums = fold_product<T, TM>(tiles, table, inner, columns, [&](int k0) {
#pragma unroll
        for (int i = t; i < DEPTH * tiles.ROWS; i += THREADS) {  // neighbouring threads on neighbouring pixels
            const int r = i / DEPTH, k = i % DEPTH, s = k0 + k;
            T a = T(0), b = T(0);
            if (row0 + r < rows && s < inner) {
                const T* line = x + static_cast<size_t>(row0 + r) * W;
                a = line[s];
                if (s > 0 && 2 * s < W) b = line[W - s];
            }
            tiles.even[k][r] = a + b;
            tiles.odd[k][r] = a - b;  // where there is no mirror image the sine is zero
        }
    });
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int j = 0; j < TN; ++j) {
            const int r = row0 + t / 8 * TM + i, v = blockIdx.y * COLUMNS + t % 8 * TN + j;
            if (r < rows && v < columns) out[static_cast<size_t>(r) * columns + v] = complex(sums.p[i][j], -sums.q[i][j]);
        }
}

// Both directions along the columns: `length` positions in, `mirrored` positions out; SIGN is that of the exponent.
// rows = M * 2 * bins: real and imaginary parts are rows of their own, and neighbours of one thread since TM is even.
template <class T, int TM, int SIGN>
__global__ void __launch_bounds__(THREADS)
columns_transform(const Complex<T>* __restrict__ in,     // M x length x bins
                  const Complex<T>* __restrict__ table,  // length/2 + 1 x out_length/2 + 1
                  Complex<T>* __restrict__ out,          // M x out_length x bins
                  int rows, int length, int out_length, int bins)
{
    static_assert(TM % 2 == 0, "a thread needs both parts of a number");
    __shared__ Tiles<T, TM> tiles;
    constexpr int ROWS = Tiles<T, TM>::ROWS, STEP = THREADS / ROWS;
    const int t = threadIdx.x, row0 = blockIdx.x * ROWS, line = 2 * bins, inner = length / 2 + 1;
    const int row = row0 + t % ROWS;  // the row that this thread reads: neighbours in memory
    const T* start = reinterpret_cast<const T*>(in) + static_cast<size_t>(row / line) * length * line + row % line;
    const int columns = out_length / 2 + 1;
    const Sums<T, TM> sums = fold_product<T, TM>(tiles, table, inner, columns, [&](int k0) {
#pragma unroll
        for (int k = t / ROWS; k < DEPTH; k += STEP) {
            const int s = k0 + k;
            T a = T(0), b = T(0);
            if (row < rows && s < inner) {
                a = start[static_cast<size_t>(s) * line];
                if (s > 0 && 2 * s < length) b = start[static_cast<size_t>(length - s) * line];
            }
            tiles.even[k][t % ROWS] = a + b;
            tiles.odd[k][t % ROWS] = a - b;
        }
    });
#pragma unroll
    for (int i = 0; i < TM; i += 2) {
        const int r = row0 + t / 8 * TM + i;
        if (r >= rows) continue;
        Complex<T>* to = out + static_cast<size_t>(r / line) * out_length * bins + r % line / 2;
#pragma unroll
        for (int j = 0; j < TN; ++j) {
            const int position = blockIdx.y * COLUMNS + t % 8 * TN + j;
            if (position >= columns) continue;
            // i (Q.re + i Q.im) = -Q.im + i Q.re
            const T p_re = sums.p[i][j], p_im = sums.p[i + 1][j];
            const T iq_re = -SIGN * sums.q[i + 1][j], iq_im = SIGN * sums.q[i][j];
            to[static_cast<size_t>(position) * bins] = complex(p_re + iq_re, p_im + iq_im);
            if (position > 0 && 2 * position < out_length)
                to[static_cast<size_t>(out_length - position) * bins] = complex(p_re - iq_re, p_im - iq_im);
        }
    }
}

template <class T, int TM>
__global__ void __launch_bounds__(THREADS)
rows_inverse(const Complex<T>* __restrict__ in,     // rows x bins
             const Complex<T>* __restrict__ table,  // bins x W/2 + 1, times c_v / (HW)
             T* __restrict__ x,                     // rows x W
             int rows, int bins, int W)
{
    __shared__ Tiles<T, TM> tiles;
    const int t = threadIdx.x, row0 = blockIdx.x * tiles.ROWS, columns = W / 2 + 1;
    const Sums<T, TM> sums = fold_product<T, TM>(tiles, table, bins, columns, [&](int k0) {
#pragma unroll
        for (int i = t; i < DEPTH * tiles.ROWS; i += THREADS) {
            const int r = i / DEPTH, k = i % DEPTH;
            Complex<T> b = complex(T(0), T(0));
            if (row0 + r < rows && k0 + k < bins) b = in[static_cast<size_t>(row0 + r) * bins + k0 + k];
            tiles.even[k][r] = b.x;
            tiles.odd[k][r] = b.y;
        }
    });
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int j = 0; j < TN; ++j) {
            const int r = row0 + t / 8 * TM + i, s = blockIdx.y * COLUMNS + t % 8 * TN + j;
            if (r >= rows || s >= columns) continue;
            T* line = x + static_cast<size_t>(r) * W;
            line[s] = sums.p[i][j] - sums.q[i][j];
            if (s > 0 && 2 * s < W) line[W - s] = sums.p[i][j] + sums.q[i][j];
        }
}
