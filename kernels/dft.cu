// The band-limited Fourier transform of real images, straight to the kept bins, and its inverse
// (Eqs. 5, 6, 8, 11).
//
//   X[u, v] = sum over r, s of x[r, s] exp(-2 pi i (u r / H + v s / W)),
//             u = 0..KU, -KU..-1,  v = 0..KV
//   x[r, s] = 1/(HW) sum over v of c_v Re(exp(2 pi i v s / W) B[v]),
//             B[v] = sum over u of X[u, v] exp(2 pi i u r / H),
//             c_v = 1 for v = 0, else 2 (a band has 2 KV + 1 <= W, so no other kept column is its
//             own mirror image)
//
// Layout: images (M, H, W) real; half-transformed (M, H, KV + 1) complex;
//   spectra (M, 2 KU + 1, KV + 1) complex.
// Reference: dcfnet_np.ops.fourier.rfft2 / irfft2 with a Band.
//
// Each direction is two matrix products, along s and along r. In all four the inner index k pairs
// with its mirror image L - k: the cosine is the same there and the sine the negative, so with
//   even = a[k] + a[L-k],           odd = a[k] - a[L-k]:
//   P[j] = sum_k cos(kj) even[k],   Q[j] = sum_k sin(kj) odd[k]
// for k = 0..L/2 only, and output j and its mirror image are P and Q added and subtracted. That
// halves the sums over images and the sums that make images. One core, `fold_product`, does the
// four; the kernels differ in how they read even and odd and in what they do with P and Q:
//
//   kernel           rows of product    k           j           even, odd of k  out
//   rows_forward     (m, r) of images   s = 0..W/2  v = 0..KV   x[s] +- x[W-s]  P - iQ
//   columns_forward  (m, v, Re or Im)   r = 0..H/2  u = 0..KU   A[r] +- A[H-r]  [u] P - iQ
//                                                                               [-u] P + iQ
//   columns_inverse  (m, v, Re or Im)   u = 0..KU   r = 0..H/2  X[u] +- X[-u]   [r] P + iQ
//                                                                               [H-r] P - iQ
//   rows_inverse     (m, r) of images   v = 0..KV   s = 0..W/2  Re, Im of B[v]  [s] P - Q
//                                                                               [W-s] P + Q
//
// A: what rows_forward made.
//
// Launch: grid = (ceil(rows / (16 TM)), ceil(J / 32)), block = 128. A block makes 16 TM rows by 32
// columns of P and of Q: half of its threads make P, the other half Q, each TM by 8 of them; tiles
// of 32 k go through shared memory, and so do P and Q on their way out, so that a warp writes
// neighbours. TM is 2, 4 or 8 (see dft.py). `table` is (k, j) with (cos, sin) in each entry.
//
// Version 1: one thread an output bin, sums straight from memory.
// Version 2: shared-memory tiles.
// Version 3: register tiles of TM by 4.
// Version 4: mirror images folded, half the arithmetic.
// Version 5, this one: P and Q in threads of their own, 64 multiplications for four loads of 16
//   bytes instead of six; reads and writes in order.
#include "complex.cuh"

constexpr int THREADS = 128;  // 2 products by 16 groups of rows by 4 groups of columns
constexpr int RESIDENT = 4;   // blocks on a multiprocessor: 128 registers a thread
constexpr int TN = 8;         // columns that a thread makes
constexpr int COLUMNS = 4 * TN;
constexpr int DEPTH = COLUMNS;  // k in a tile: the tiles of even and odd become those of P and Q

template <class T, int TM> struct Tiles {
    static constexpr int ROWS = 16 * TM;
    // Even and odd: [k][row]; at the end P and Q: [column][row]. Four more than ROWS: rows stay
    // aligned, and eight lanes' 16 bytes fall into different banks.
    alignas(16) T folded[2][DEPTH][ROWS + 4];
    alignas(16) T table[2][DEPTH][COLUMNS];  // cosines and sines
};

// N neighbours of shared memory in as few reads or writes as possible; aligned to their size, at
// most 16 bytes.
template <class T, int N> struct Neighbours {
    static constexpr int CHUNK = sizeof(T) * N < 16 ? N : 16 / sizeof(T);
    struct alignas(sizeof(T) * CHUNK) Chunk { T v[CHUNK]; };
};

template <class T, int N> __device__ __forceinline__ void read(T (&to)[N], const T* from)
{
    using Some = Neighbours<T, N>;
#pragma unroll
    for (int i = 0; i < N; i += Some::CHUNK) {
        const auto chunk = *reinterpret_cast<const typename Some::Chunk*>(from + i);
#pragma unroll
        for (int l = 0; l < Some::CHUNK; ++l) to[i + l] = chunk.v[l];
    }
}

template <class T, int N> __device__ __forceinline__ void write(T* to, const T (&from)[N])
{
    using Some = Neighbours<T, N>;
#pragma unroll
    for (int i = 0; i < N; i += Some::CHUNK) {
        typename Some::Chunk chunk;
#pragma unroll
        for (int l = 0; l < Some::CHUNK; ++l) chunk.v[l] = from[i + l];
        *reinterpret_cast<typename Some::Chunk*>(to + i) = chunk;
    }
}

// P and Q of this block, left in tiles.folded, where `fill(k0)` puts even and odd of k0..k0+31,
// zero past the end.
template <class T, int TM, class Fill>
__device__ __forceinline__ void fold_product(Tiles<T, TM>& tiles,
                                             const Complex<T>* __restrict__ table, int inner,
                                             int columns, Fill fill)
{
    // A thread's rows are 4 (or TM) neighbours at `row` and, for TM = 8, as many half a tile
    // further; so are its columns.
    constexpr int SOME = TM < 4 ? TM : 4;
    constexpr int NEXT_ROWS = Tiles<T, TM>::ROWS / (TM / SOME), NEXT_COLUMNS = COLUMNS / 2;
    const int t = threadIdx.x, product = t / 64;
    const int row = (t % 64 / 32 * 8 + t % 8) * SOME;
    const int column = t % 32 / 8 * 4, column0 = blockIdx.y * COLUMNS;
    T sum[TM / SOME][SOME][2][4] = {};

    for (int k0 = 0; k0 < inner; k0 += DEPTH) {
        fill(k0);
#pragma unroll
        for (int i = t; i < DEPTH * COLUMNS; i += THREADS) {
            const int k = i / COLUMNS, j = i % COLUMNS;
            Complex<T> entry = complex(T(0), T(0));
            if (k0 + k < inner && column0 + j < columns)
                entry = table[static_cast<size_t>(k0 + k) * columns + column0 + j];
            tiles.table[0][k][j] = entry.x;
            tiles.table[1][k][j] = entry.y;
        }
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < DEPTH; ++k) {
            T a[TM / SOME][SOME], b[2][4];
#pragma unroll
            for (int m = 0; m < TM / SOME; ++m)
                read(a[m], &tiles.folded[product][k][row + m * NEXT_ROWS]);
#pragma unroll
            for (int n = 0; n < 2; ++n)
                read(b[n], &tiles.table[product][k][column + n * NEXT_COLUMNS]);
#pragma unroll
            for (int m = 0; m < TM / SOME; ++m)
#pragma unroll
                for (int i = 0; i < SOME; ++i)
#pragma unroll
                    for (int n = 0; n < 2; ++n)
#pragma unroll
                        for (int j = 0; j < 4; ++j) sum[m][i][n][j] += a[m][i] * b[n][j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int m = 0; m < TM / SOME; ++m) {
                T side[SOME];
#pragma unroll
                for (int i = 0; i < SOME; ++i) side[i] = sum[m][i][n][j];
                write(&tiles.folded[product][column + n * NEXT_COLUMNS + j][row + m * NEXT_ROWS],
                      side);
            }
    __syncthreads();
}

// Both products along rows: a warp takes four rows at a time, a lane one k or one column of them.
constexpr int LANES = 32, WARPS = THREADS / LANES, SIDE = 4;

template <class T, int TM>
__global__ void __launch_bounds__(THREADS, RESIDENT)
rows_forward(const T* __restrict__ x,               // rows x W
             const Complex<T>* __restrict__ table,  // W/2 + 1 x columns
             Complex<T>* __restrict__ out,          // rows x columns
             int rows, int W, int columns)
{
    __shared__ Tiles<T, TM> tiles;
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const int row0 = blockIdx.x * tiles.ROWS, inner = W / 2 + 1;
    fold_product<T, TM>(tiles, table, inner, columns, [&](int k0) {
        const int s = k0 + lane;
        const bool mirrored = s > 0 && 2 * s < W;
        const T* start = x + static_cast<size_t>(row0) * W;
#pragma unroll 2
        for (int first = SIDE * warp; first < tiles.ROWS; first += SIDE * WARPS) {
            T a[SIDE], b[SIDE], even[SIDE], odd[SIDE];
#pragma unroll
            for (int i = 0; i < SIDE; ++i) {
                const int line = (first + i) * W;
                const bool there = row0 + first + i < rows && s < inner;
                a[i] = there ? start[line + s] : T(0);
                b[i] = there && mirrored ? start[line + W - s] : T(0);
            }
#pragma unroll
            for (int i = 0; i < SIDE; ++i) {
                even[i] = a[i] + b[i];
                odd[i] = a[i] - b[i];  // where there is no mirror image the sine is zero
            }
            write(&tiles.folded[0][lane][first], even);
            write(&tiles.folded[1][lane][first], odd);
        }
    });
    const int v = blockIdx.y * COLUMNS + lane;
#pragma unroll
    for (int first = SIDE * warp; first < tiles.ROWS; first += SIDE * WARPS) {
        T p[SIDE], q[SIDE];
        read(p, &tiles.folded[0][lane][first]);
        read(q, &tiles.folded[1][lane][first]);
#pragma unroll
        for (int i = 0; i < SIDE; ++i)
            if (row0 + first + i < rows && v < columns)
                out[static_cast<size_t>(row0 + first + i) * columns + v] = complex(p[i], -q[i]);
    }
}

// Both directions along the columns: `length` positions in, `out_length` positions out; SIGN is
// that of the exponent. rows = M * 2 * bins: real and imaginary parts are rows of their own, and
// neighbours of one thread.
template <class T, int TM, int SIGN>
__global__ void __launch_bounds__(THREADS, RESIDENT)
columns_transform(const Complex<T>* __restrict__ in,     // M x length x bins
                  const Complex<T>* __restrict__ table,  // length/2 + 1 x out_length/2 + 1
                  Complex<T>* __restrict__ out,          // M x out_length x bins
                  int rows, int length, int out_length, int bins)
{
    __shared__ Tiles<T, TM> tiles;
    constexpr int ROWS = Tiles<T, TM>::ROWS, PAIRS = ROWS / 2;
    const int t = threadIdx.x, row0 = blockIdx.x * ROWS, line = 2 * bins, inner = length / 2 + 1;
    const int row = row0 + t % ROWS;  // the row that this thread reads: neighbours in memory
    const T* start = reinterpret_cast<const T*>(in)
        + static_cast<size_t>(row / line) * length * line + row % line;
    const int columns = out_length / 2 + 1;
    fold_product<T, TM>(tiles, table, inner, columns, [&](int k0) {
#pragma unroll 4
        for (int k = t / ROWS; k < DEPTH; k += THREADS / ROWS) {
            const int s = k0 + k;
            T a = T(0), b = T(0);
            if (row < rows && s < inner) {
                a = start[static_cast<size_t>(s) * line];
                if (s > 0 && 2 * s < length) b = start[static_cast<size_t>(length - s) * line];
            }
            tiles.folded[0][k][t % ROWS] = a + b;
            tiles.folded[1][k][t % ROWS] = a - b;
        }
    });
    const int pair = t % PAIRS, r = row0 + 2 * pair;  // the number that this thread writes
    if (r >= rows) return;
    Complex<T>* to = out + static_cast<size_t>(r / line) * out_length * bins + r % line / 2;
#pragma unroll 4
    for (int column = t / PAIRS; column < COLUMNS; column += THREADS / PAIRS) {
        const int position = blockIdx.y * COLUMNS + column;
        if (position >= columns) break;
        T p[2], q[2];  // real and imaginary part
        read(p, &tiles.folded[0][column][2 * pair]);
        read(q, &tiles.folded[1][column][2 * pair]);
        const T iq_re = -SIGN * q[1], iq_im = SIGN * q[0];  // i (Q.re + i Q.im) = -Q.im + i Q.re
        to[static_cast<size_t>(position) * bins] = complex(p[0] + iq_re, p[1] + iq_im);
        if (position > 0 && 2 * position < out_length)
            to[static_cast<size_t>(out_length - position) * bins] =
                complex(p[0] - iq_re, p[1] - iq_im);
    }
}

template <class T, int TM>
__global__ void __launch_bounds__(THREADS, RESIDENT)
rows_inverse(const Complex<T>* __restrict__ in,     // rows x bins
             const Complex<T>* __restrict__ table,  // bins x W/2 + 1, times c_v / (HW)
             T* __restrict__ x,                     // rows x W
             int rows, int bins, int W)
{
    __shared__ Tiles<T, TM> tiles;
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const int row0 = blockIdx.x * tiles.ROWS, columns = W / 2 + 1;
    fold_product<T, TM>(tiles, table, bins, columns, [&](int k0) {
#pragma unroll 2
        for (int first = SIDE * warp; first < tiles.ROWS; first += SIDE * WARPS) {
            T re[SIDE], im[SIDE];
#pragma unroll
            for (int i = 0; i < SIDE; ++i) {
                Complex<T> b = complex(T(0), T(0));
                if (row0 + first + i < rows && k0 + lane < bins)
                    b = in[static_cast<size_t>(row0 + first + i) * bins + k0 + lane];
                re[i] = b.x;
                im[i] = b.y;
            }
            write(&tiles.folded[0][lane][first], re);
            write(&tiles.folded[1][lane][first], im);
        }
    });
    const int s = blockIdx.y * COLUMNS + lane;
    if (s >= columns) return;
#pragma unroll
    for (int first = SIDE * warp; first < tiles.ROWS; first += SIDE * WARPS) {
        T p[SIDE], q[SIDE];
        read(p, &tiles.folded[0][lane][first]);
        read(q, &tiles.folded[1][lane][first]);
#pragma unroll
        for (int i = 0; i < SIDE; ++i) {
            if (row0 + first + i >= rows) break;
            T* line = x + static_cast<size_t>(row0 + first + i) * W;
            line[s] = p[i] - q[i];
            if (s > 0 && 2 * s < W) line[W - s] = p[i] + q[i];
        }
    }
}
