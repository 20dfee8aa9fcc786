// 3x3 convolution (cross-correlation), stride 1, NCHW, with its gradients.
//
// Formulas    y[n,o,r,s]  = b[o] + sum over c,i,j of w[o,c,i,j] x[n,c, r + i D - p, s + j D - p]
//             dx          = the same sum with the kernel flipped, its channels exchanged and the
//                           padding 2 D - p
//             dw[o,c,i,j] = sum over n,r,s of dy[n,o,r,s] x[n,c, r + i D - p, s + j D - p]
//             db[o]       = sum over n,r,s of dy[n,o,r,s]
//             D: dilation, p: padding (negative: that many pixels are left out);
//             x is 0 outside the image.
// Paper       Sec. 4.1 and Table 1: the layers of the feature extractor.
// Layout      x N x C x H x W, y N x O x OH x OW, w O x C x 3 x 3;
//             packed weights C x 9 x OP, OP = O rounded up to 32s.
// Reference   dcfnet_np.ops.conv: conv2d_forward, conv2d_backward;
//             dcfnet_np.ops.lrn: lrn_forward for NORMALISE
// Launch      conv.py; each kernel says its grid and block.
//
// Version ladder
//   1  one output pixel and four channels per thread, one input channel at a time (the prototype):
//      bound by shared memory
//   2  4 x HIGH pixels and 8 channels per thread in registers: for HIGH = 1 twelve loads of 16
//      bytes feed 96 multiplications a kernel row; weights are packed once so that they load as
//      they lie; the gradient to the weights keeps sums of CHANNELS input channels per thread and
//      reads x by broadcasts
//   3  (this one) sums go out through shared memory, so that a warp writes 32 neighbours (straight
//      from the registers its 4-byte pieces lie 16 bytes apart); the last layer's LRN x window is
//      done there, where all channels meet: this saves reading and writing all features once; the
//      gradient to the weights has two outputs per thread, so that an x read from shared memory
//      feeds twice as many multiplications
#include "power.cuh"

// Four values, aligned as one or two 16-byte loads.
template <class T>
struct alignas(16) Four {
    T v[4];
};

template <class T> __device__ __forceinline__ void copy_four(T* to, const T* from)
{
    *reinterpret_cast<Four<T>*>(to) = *reinterpret_cast<const Four<T>*>(from);
}

// --- forward, and the gradient to the data -------------------------------------------------------

// What becomes of a sum on its way out.
enum After {
    PLAIN,  // y = sum
    BIAS,   // y = sum + b
    RELU,   // y = max(sum + b, 0)
    MASK,   // y = sum where extra > 0, else 0: the gradient through a ReLU, extra is its output
    NORMALISE,  // y = v (k + alpha * sum of v^2 over five channels)^-3/4, v = sum + b: see lrn.cu
    NORMALISE_WINDOW  // the same times window
};

constexpr int MANY = 8;        // output channels of a thread
constexpr int THREADS = 128;  // four warps, each with output channels of its own

// A block makes 32 x 4 HIGH pixels of 32 output channels of one image, C_STEP input channels at a
// time.  Each thread has 4 x HIGH pixels and MANY channels in registers; the lanes of a warp share
// their weights.  So many blocks are to find room on a multiprocessor, the compiler keeps to the
// registers that this leaves: 5 of HIGH 1, 4 of HIGH 2, 2 in double.
//
// grid = (ceil(OW / 32), ceil(OH / (4 * HIGH)), N * OP / 32), block = 128
template <class T, int C_STEP, int HIGH, int DILATION, int AFTER>
__global__ void __launch_bounds__(THREADS, sizeof(T) == 8 ? 2 : 6 - HIGH)
conv3x3(const T* __restrict__ x,       // N x C x H x W
        const T* __restrict__ packed,  // C x 9 x OP
        const T* __restrict__ extra,   // b: O; or the mask: N x O x OH x OW; or not read
        const T* __restrict__ window,  // OH x OW, or not read
        T* __restrict__ y,             // N x O x OH x OW
        int C, int H, int W, int O, int OP, int OH, int OW, int pad, T k, T alpha)
{
    constexpr int LANES_X = 8, LANES_Y = 4;  // a warp covers 8 x 4 threads,
    constexpr int WIDE = 4;                  // each of them 4 pixels side by side
    constexpr int TILE_X = LANES_X * WIDE;
    constexpr int TILE_O = THREADS / 32 * MANY;
    constexpr int TILE_Y = LANES_Y * HIGH;
    constexpr int ROWS = TILE_Y + 2 * DILATION;
    constexpr int LOADS = (WIDE + 2 * DILATION + 3) / 4;  // fours that a thread reads of a row
    constexpr int COLUMNS = TILE_X - WIDE + 4 * LOADS;    // of the tile and its border, in fours
    constexpr int THREAD_ROWS = HIGH + 2 * DILATION;
    constexpr int LRN_RADIUS = 2;
    constexpr bool WINDOWED = AFTER == NORMALISE_WINDOW;
    constexpr bool NORMALISED = AFTER == NORMALISE || WINDOWED;
    static_assert(THREADS == TILE_X * LANES_Y, "a thread writes a pixel of each row of HIGH");

    struct Step {
        alignas(16) T input[C_STEP][ROWS][COLUMNS];
        alignas(16) T weight[C_STEP][9][TILE_O];
    };
    union Tiles {  // first the one, then the other
        Step step;
        alignas(16) T result[TILE_O][THREADS];
    };
    __shared__ Tiles tiles;
    auto& input = tiles.step.input;
    auto& weight = tiles.step.weight;

    const int groups = OP / TILE_O;
    const int n = blockIdx.z / groups;
    const int o_block = (blockIdx.z % groups) * TILE_O;
    const int x_block = blockIdx.x * TILE_X, y_block = blockIdx.y * TILE_Y;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int o_thread = warp * MANY;  // the thread's place in the tile
    const int x_thread = lane % LANES_X * WIDE, y_thread = lane / LANES_X * HIGH;

    // How many pixels of the input tile this thread loads, and how many fours of the weights.
    constexpr int PIXELS = (ROWS * COLUMNS + THREADS - 1) / THREADS;
    constexpr int FOURS = (C_STEP * 9 * TILE_O / 4 + THREADS - 1) / THREADS;
    int from[PIXELS];  // where they are, the same in every channel; -1 for a zero
#pragma unroll
    for (int k = 0; k < PIXELS; ++k) {
        const int i = threadIdx.x + k * THREADS;
        const int in_y = y_block + i / COLUMNS - pad, in_x = x_block + i % COLUMNS - pad;
        from[k] = in_y >= 0 && in_y < H && in_x >= 0 && in_x < W ? in_y * W + in_x : -1;
    }
    const int HW = H * W;
    const T* planes = x + static_cast<size_t>(n) * C * HW;  // of this step's channels
    const T* taps = packed + o_block;

    T sum[HIGH][WIDE][MANY];
#pragma unroll
    for (int q = 0; q < MANY; ++q) {
        const int o = o_block + o_thread + q;
        const T first = AFTER != PLAIN && AFTER != MASK && o < O ? extra[o] : T(0);
#pragma unroll
        for (int h = 0; h < HIGH; ++h)
#pragma unroll
            for (int v = 0; v < WIDE; ++v) sum[h][v][q] = first;
    }

    for (int c_block = 0; c_block < C; c_block += C_STEP) {
        // All loads of a step are under way together, into registers; shared memory comes later.
        T pixel[C_STEP][PIXELS];
        Four<T> four[FOURS];
#pragma unroll
        for (int c = 0; c < C_STEP; ++c)
#pragma unroll
            for (int k = 0; k < PIXELS; ++k)
                pixel[c][k] = from[k] >= 0 && c_block + c < C ? planes[c * HW + from[k]] : T(0);
#pragma unroll
        for (int k = 0; k < FOURS; ++k) {
            const int i = threadIdx.x + k * THREADS;
            const int row = i / (TILE_O / 4);  // channel * 9 + tap, of this step
            const int o = i % (TILE_O / 4) * 4;
            four[k] = i < C_STEP * 9 * TILE_O / 4 && row < (C - c_block) * 9
                ? *reinterpret_cast<const Four<T>*>(taps + row * OP + o) : Four<T>{};
        }
        planes += C_STEP * HW;
        taps += C_STEP * 9 * OP;
#pragma unroll
        for (int k = 0; k < PIXELS; ++k) {
            const int i = threadIdx.x + k * THREADS;
            if (i < ROWS * COLUMNS)
#pragma unroll
                for (int c = 0; c < C_STEP; ++c) input[c][i / COLUMNS][i % COLUMNS] = pixel[c][k];
        }
#pragma unroll
        for (int k = 0; k < FOURS; ++k) {
            const int i = threadIdx.x + k * THREADS;
            if (i < C_STEP * 9 * TILE_O / 4)
                *reinterpret_cast<Four<T>*>(&weight[0][0][0] + 4 * i) = four[k];
        }
        __syncthreads();

#pragma unroll 1
        for (int c = 0; c < C_STEP; ++c) {
            T value[THREAD_ROWS][4 * LOADS];
#pragma unroll
            for (int r = 0; r < THREAD_ROWS; ++r) {
                if (HIGH < DILATION && r % DILATION >= HIGH) continue;  // no kernel row needs it
#pragma unroll
                for (int k = 0; k < LOADS; ++k)
                    copy_four(&value[r][4 * k], &input[c][y_thread + r][x_thread + 4 * k]);
            }
#pragma unroll
            for (int i = 0; i < 3; ++i)
#pragma unroll
                for (int j = 0; j < 3; ++j) {
                    T w[MANY];
#pragma unroll
                    for (int q = 0; q < MANY; q += 4)
                        copy_four(&w[q], &weight[c][i * 3 + j][o_thread + q]);
#pragma unroll
                    for (int h = 0; h < HIGH; ++h)
#pragma unroll
                        for (int v = 0; v < WIDE; ++v)
#pragma unroll
                            for (int q = 0; q < MANY; ++q)
                                sum[h][v][q] += w[q] * value[h + i * DILATION][v + j * DILATION];
                }
        }
        __syncthreads();
    }

    // A row of each thread at a time: pixel i of the result lies in row i / 32 * HIGH + h of the
    // tile.
#pragma unroll
    for (int h = 0; h < HIGH; ++h) {
        if (h > 0) __syncthreads();
#pragma unroll
        for (int q = 0; q < MANY; ++q) {
            Four<T> side;
#pragma unroll
            for (int v = 0; v < WIDE; ++v) side.v[v] = sum[h][v][q];
            *reinterpret_cast<Four<T>*>(
                &tiles.result[o_thread + q][y_thread / HIGH * TILE_X + x_thread]) = side;
        }
        __syncthreads();
        const int pixel_out = threadIdx.x;
        const int out_y = y_block + pixel_out / TILE_X * HIGH + h;
        const int out_x = x_block + pixel_out % TILE_X;
        if (out_y >= OH || out_x >= OW) continue;
        const int OHW = OH * OW;
        const size_t start = (static_cast<size_t>(n) * O + o_block) * OHW + out_y * OW + out_x;
        const T scale = WINDOWED ? window[out_y * OW + out_x] : T(1);
        T value[TILE_O + 2 * LRN_RADIUS] = {};  // unrolled, only a few are alive at a time
#pragma unroll
        for (int o = 0; o < (NORMALISED ? LRN_RADIUS : 0); ++o)
            value[o + LRN_RADIUS] = tiles.result[o][pixel_out];
#pragma unroll
        for (int o = 0; o < TILE_O; ++o) {
            if (o_block + o >= O) break;
            T out;
            if (NORMALISED) {
                if (o + LRN_RADIUS < TILE_O)
                    value[o + 2 * LRN_RADIUS] = tiles.result[o + LRN_RADIUS][pixel_out];
                T square = T(0);
#pragma unroll
                for (int d = 0; d <= 2 * LRN_RADIUS; ++d) square += value[o + d] * value[o + d];
                out = value[o + LRN_RADIUS] * power34(k + alpha * square);
                if (WINDOWED) out *= scale;
            } else {
                out = tiles.result[o][pixel_out];
                if (AFTER == RELU) out = out > T(0) ? out : T(0);
                if (AFTER == MASK) out = extra[start + o * OHW] > T(0) ? out : T(0);
            }
            y[start + o * OHW] = out;
        }
    }
}

// Weights as conv3x3 reads them.  FLIPPED: for the gradient to the data, kernel turned by 180
// degrees and channels exchanged, so that `in` counts the channels of dy and `out` those of dx.
//
// packed[in][tap][out] = FLIPPED ? w[in][out][8 - tap] : w[out][in][tap], 0 for out >= OUT
// grid = ceil(IN * 9 * OUT_PADDED / 256), block = 256
template <class T, bool FLIPPED>
__global__ void conv3x3_pack(const T* __restrict__ w, T* __restrict__ packed,
                             int IN, int OUT, int OUT_PADDED)
{
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= IN * 9 * OUT_PADDED) return;
    const int out = i % OUT_PADDED, tap = i / OUT_PADDED % 9, in = i / OUT_PADDED / 9;
    T v = T(0);
    if (out < OUT) v = FLIPPED ? w[(in * OUT + out) * 9 + 8 - tap] : w[(out * IN + in) * 9 + tap];
    packed[i] = v;
}

// --- gradient to the weights and the bias --------------------------------------------------------

// Stage 1.  A thread has two output and CHANNELS input channels, 18 * CHANNELS sums over every
// gridDim.x-th tile of pixels.  LANES_O lanes of a warp, 32 or 16, share their input channels: they
// read the same x, and each its own dy.
//
// part[block][row][o]: rows 9 c + tap of the sums, then one row for the bias
// grid = (number of partial sums, ceil(C / (CHANNELS * 32 / LANES_O * WARPS)),
//         ceil(O / (2 * LANES_O)))
// block = 32 * WARPS
template <class T, int CHANNELS, int LANES_O, int WARPS, int RESIDENT, int DILATION>
__global__ void __launch_bounds__(32 * WARPS, RESIDENT)
conv3x3_weights(const T* __restrict__ x,   // N x C x H x W
                const T* __restrict__ dy,  // N x O x OH x OW
                T* __restrict__ part,      // gridDim.x x (9 C + 1) x O
                int N, int C, int H, int W, int O, int OH, int OW, int pad)
{
    constexpr int STRIP_X = 32, STRIP_Y = 2;  // pixels of dy that a block takes at a time
    constexpr int STEP = 8;                   // and a thread
    constexpr int OUTPUTS = 2;                // of a thread, LANES_O apart
    constexpr int TILE_C = CHANNELS * (32 / LANES_O) * WARPS, TILE_O = OUTPUTS * LANES_O;
    constexpr int ROWS = STRIP_Y + 2 * DILATION;
    constexpr int LOADS = (STEP + 2 * DILATION + 3) / 4;
    constexpr int COLUMNS = STRIP_X - STEP + 4 * LOADS;
    constexpr int PIXELS = (ROWS * COLUMNS + 31) / 32;  // of a channel's tile that a lane loads
    // channels whose loads are under way together
    constexpr int BATCH_C = CHANNELS < 4 ? CHANNELS : 4;
    constexpr int BATCH_O = TILE_O / WARPS < 8 ? TILE_O / WARPS : 8;
    constexpr int PITCH = STRIP_X * STRIP_Y + 4;  // eight lanes' 16 bytes fall into different banks

    alignas(16) __shared__ T input[TILE_C][ROWS][COLUMNS];
    alignas(16) __shared__ T error[TILE_O][PITCH];

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int c_block = blockIdx.y * TILE_C, o_block = blockIdx.z * TILE_O;
    const int c_thread = (warp * (32 / LANES_O) + lane / LANES_O) * CHANNELS;
    const int o_thread = lane % LANES_O;
    const int tiles_x = (OW + STRIP_X - 1) / STRIP_X, tiles_y = (OH + STRIP_Y - 1) / STRIP_Y;
    const int tiles = N * tiles_x * tiles_y, HW = H * W, OHW = OH * OW;

    T sum[OUTPUTS][CHANNELS][9] = {};
    T bias[OUTPUTS] = {};

    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int n = tile / (tiles_x * tiles_y);
        const int x_block = tile % tiles_x * STRIP_X, y_block = tile / tiles_x % tiles_y * STRIP_Y;
        const T* image = x + static_cast<size_t>(n) * C * HW;
        const T* map = dy + static_cast<size_t>(n) * O * OHW;
        int from[PIXELS];
#pragma unroll
        for (int k = 0; k < PIXELS; ++k) {
            const int i = lane + 32 * k;
            const int in_y = y_block + i / COLUMNS - pad, in_x = x_block + i % COLUMNS - pad;
            from[k] = in_y >= 0 && in_y < H && in_x >= 0 && in_x < W ? in_y * W + in_x : -1;
        }
        for (int first = warp; first < TILE_C; first += BATCH_C * WARPS) {
            T pixel[BATCH_C][PIXELS];
#pragma unroll
            for (int b = 0; b < BATCH_C; ++b)
#pragma unroll
                for (int k = 0; k < PIXELS; ++k) {
                    const int c = first + b * WARPS;
                    const bool inside = from[k] >= 0 && c < TILE_C && c_block + c < C;
                    pixel[b][k] = inside ? image[(c_block + c) * HW + from[k]] : T(0);
                }
#pragma unroll
            for (int b = 0; b < BATCH_C; ++b)
#pragma unroll
                for (int k = 0; k < PIXELS; ++k) {
                    const int c = first + b * WARPS, i = lane + 32 * k;
                    if (c < TILE_C && i < ROWS * COLUMNS)
                        input[c][i / COLUMNS][i % COLUMNS] = pixel[b][k];
                }
        }
        const int out_x = x_block + lane;
        for (int first = warp; first < TILE_O; first += BATCH_O * WARPS) {
            T pixel[BATCH_O][STRIP_Y];
#pragma unroll
            for (int b = 0; b < BATCH_O; ++b)
#pragma unroll
                for (int r = 0; r < STRIP_Y; ++r) {
                    const int o = o_block + first + b * WARPS;
                    const bool inside = o < O && y_block + r < OH && out_x < OW;
                    pixel[b][r] = inside ? map[o * OHW + (y_block + r) * OW + out_x] : T(0);
                }
#pragma unroll
            for (int b = 0; b < BATCH_O; ++b)
#pragma unroll
                for (int r = 0; r < STRIP_Y; ++r)
                    if (TILE_O % WARPS == 0 || first + b * WARPS < TILE_O)
                        error[first + b * WARPS][r * STRIP_X + lane] = pixel[b][r];
        }
        __syncthreads();

#pragma unroll 1
        for (int r = 0; r < STRIP_Y; ++r)
#pragma unroll 1
            for (int s = 0; s < STRIP_X; s += STEP) {
                T e[OUTPUTS][STEP];
#pragma unroll
                for (int m = 0; m < OUTPUTS; ++m) {
#pragma unroll
                    for (int k = 0; k < STEP; k += 4)
                        copy_four(&e[m][k], &error[o_thread + m * LANES_O][r * STRIP_X + s + k]);
#pragma unroll
                    for (int k = 0; k < STEP; ++k) bias[m] += e[m][k];
                }
#pragma unroll
                for (int c = 0; c < CHANNELS; ++c)
#pragma unroll
                    for (int i = 0; i < 3; ++i) {
                        // or the compiler loads far ahead, and registers spill
                        __syncwarp(0xffffffffu);
                        T value[4 * LOADS];
#pragma unroll
                        for (int k = 0; k < LOADS; ++k)
                            copy_four(&value[4 * k],
                                      &input[c_thread + c][r + i * DILATION][s + 4 * k]);
#pragma unroll
                        for (int k = 0; k < STEP; ++k)
#pragma unroll
                            for (int j = 0; j < 3; ++j)
#pragma unroll
                                for (int m = 0; m < OUTPUTS; ++m)
                                    sum[m][c][i * 3 + j] += e[m][k] * value[k + j * DILATION];
                    }
            }
        __syncthreads();
    }

#pragma unroll
    for (int m = 0; m < OUTPUTS; ++m) {
        const int o = o_block + o_thread + m * LANES_O;
        if (o >= O) break;
        T* mine = part + static_cast<size_t>(blockIdx.x) * (9 * C + 1) * O + o;
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) {
            if (c_block + c_thread + c >= C) break;
#pragma unroll
            for (int tap = 0; tap < 9; ++tap)
                mine[static_cast<size_t>((c_block + c_thread + c) * 9 + tap) * O] = sum[m][c][tap];
        }
        if (c_block + c_thread == 0) mine[static_cast<size_t>(9 * C) * O] = bias[m];
    }
}

// Stage 2.  Adds the partial sums in a fixed order, so the result is the same at every run.
//
// grid = ceil((9 C + 1) O / 32), block = (32, 8)
template <class T>
__global__ void conv3x3_weights_sum(const T* __restrict__ part,  // parts x (9 C + 1) x O
                                    T* __restrict__ dw,          // O x C x 3 x 3
                                    T* __restrict__ db,          // O
                                    int parts, int C, int O)
{
    __shared__ T sums[8][32];
    const int size = (9 * C + 1) * O;
    const int i = blockIdx.x * 32 + threadIdx.x;
    T sum = T(0);
    if (i < size)
        for (int p = threadIdx.y; p < parts; p += 8) sum += part[static_cast<size_t>(p) * size + i];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || i >= size) return;
    for (int k = 1; k < 8; ++k) sum += sums[k][threadIdx.x];
    const int row = i / O, o = i % O;
    if (row == 9 * C) db[o] = sum;
    else dw[o * 9 * C + row] = sum;
}
