// 3x3 convolution and its gradients on tensor cores, in TF32: conv.cu's sums of products of rounded
// numbers.
//
// Formulas    those of conv.cu, with every factor rounded to TF32 (10 bits of fraction, to nearest,
//             ties away from zero); sums are float32, and so is db, the sum of dy as it is.
//             A product is off by up to 2^-10 of itself.
// Paper       Sec. 4.1 and Table 1: the layers of the feature extractor, in training; opt-in.
// Layout      as in conv.cu; x, y, dy, w float32; packed weights C x 9 x OP, OP = O rounded up to
//             32s
// Reference   dcfnet_np.ops.conv: conv2d_forward, conv2d_backward; factors are rounded as here
// Launch      conv.py where tf32 is true; each kernel says its grid and block. Compute capability
//             8.0 or newer.
//
// Version ladder
//   1  (this one) a product of 16 x 8 by 8 x 8 for each tap: the forward pass and the gradient to
//      the data have 16 pixels by 8 channels times 8 channels by 8 outputs, the gradient to the
//      weights 16 outputs by 8 pixels times 8 pixels by 8 channels; values are rounded once, on
//      their way to shared memory, and lie there so that no two lanes of a load share a bank; loads
//      are not ahead of products, two blocks on a multiprocessor take turns
#include "mma.cuh"

// What becomes of a sum on its way out: the first of conv.cu's.
enum After { PLAIN, BIAS, RELU, MASK };

// --- forward, and the gradient to the data -------------------------------------------------------

constexpr int C_STEP = 8;                // input channels at a time: one product's
constexpr int TILE_O = 32;               // a block's outputs
constexpr int TILE_X = 32, TILE_Y = 16;  // and pixels,
constexpr int HIGH = 2;                  // of which a warp has so many rows
constexpr int THREADS = TILE_Y / HIGH * 32;

// The smallest number from `size` on that is 8 or 24 in excess of 32s: then four of them, eight
// numbers from each, take all 32 banks.
__host__ __device__ constexpr int spread(int size) { return (size + 7) / 16 * 16 + 8; }

// grid = (ceil(OW / 32), ceil(OH / 16), N * OP / 32), block = 256
template <int DILATION, int AFTER>
__global__ void __launch_bounds__(THREADS, 2)
conv3x3_tf32(const float* __restrict__ x,       // N x C x H x W
             const float* __restrict__ packed,  // C x 9 x OP
             const float* __restrict__ extra,   // b: O; or the mask: N x O x OH x OW; or not read
             float* __restrict__ y,             // N x O x OH x OW
             int C, int H, int W, int O, int OP, int OH, int OW, int pad)
{
    constexpr int ROWS = TILE_Y + 2 * DILATION, COLUMNS = TILE_X + 2 * DILATION;
    constexpr int PIXELS = (ROWS * COLUMNS + THREADS - 1) / THREADS;  // a thread's, of a channel
    constexpr int PARTS_X = TILE_X / 16, PARTS_O = TILE_O / 8;        // products side by side
    static_assert(THREADS == 32 * C_STEP && TILE_O == 32, "");

    __shared__ unsigned input[C_STEP][spread(ROWS * COLUMNS)];
    __shared__ unsigned weight[C_STEP][spread(9 * TILE_O)];

    const int groups = OP / TILE_O;
    const int n = blockIdx.z / groups, o_block = blockIdx.z % groups * TILE_O;
    const int x_block = blockIdx.x * TILE_X, y_block = blockIdx.y * TILE_Y;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int HW = H * W, OHW = OH * OW;

    int from[PIXELS];  // where they are in a channel, -1 for a zero
#pragma unroll
    for (int k = 0; k < PIXELS; ++k) {
        const int i = threadIdx.x + k * THREADS;
        const int in_y = y_block + i / COLUMNS - pad, in_x = x_block + i % COLUMNS - pad;
        from[k] = in_y >= 0 && in_y < H && in_x >= 0 && in_x < W ? in_y * W + in_x : -1;
    }

    float sum[HIGH][PARTS_X][PARTS_O][4] = {};

    for (int c_block = 0; c_block < C; c_block += C_STEP) {
        const float* planes = x + (static_cast<size_t>(n) * C + c_block) * HW;
#pragma unroll
        for (int c = 0; c < C_STEP; ++c)
#pragma unroll
            for (int k = 0; k < PIXELS; ++k) {
                const int i = threadIdx.x + k * THREADS;
                const float pixel =
                    from[k] >= 0 && c_block + c < C ? planes[c * HW + from[k]] : 0.f;
                if (i < ROWS * COLUMNS) input[c][i] = to_tf32(pixel);
            }
        // a warp a channel
        const float* taps = packed + static_cast<size_t>(c_block + warp) * 9 * OP + o_block + lane;
#pragma unroll
        for (int tap = 0; tap < 9; ++tap)
            weight[warp][tap * TILE_O + lane] = to_tf32(c_block + warp < C ? taps[tap * OP] : 0.f);
        __syncthreads();

#pragma unroll 1
        for (int i = 0; i < 3; ++i)
#pragma unroll
            for (int j = 0; j < 3; ++j) {
                unsigned b[PARTS_O][2];
#pragma unroll
                for (int q = 0; q < PARTS_O; ++q) {
                    b[q][0] = weight[t][(i * 3 + j) * TILE_O + q * 8 + g];
                    b[q][1] = weight[t + 4][(i * 3 + j) * TILE_O + q * 8 + g];
                }
#pragma unroll
                for (int h = 0; h < HIGH; ++h)
#pragma unroll
                    for (int m = 0; m < PARTS_X; ++m) {
                        const int place =
                            (warp * HIGH + h + i * DILATION) * COLUMNS + m * 16 + g + j * DILATION;
                        const unsigned a[4] = {input[t][place], input[t][place + 8],
                                               input[t + 4][place], input[t + 4][place + 8]};
#pragma unroll
                        for (int q = 0; q < PARTS_O; ++q) multiply_add(sum[h][m][q], a, b[q]);
                    }
            }
        __syncthreads();
    }

#pragma unroll
    for (int h = 0; h < HIGH; ++h)
#pragma unroll
        for (int m = 0; m < PARTS_X; ++m)
#pragma unroll
            for (int q = 0; q < PARTS_O; ++q)
#pragma unroll
                for (int k = 0; k < 4; ++k) {
                    const int o = o_block + q * 8 + 2 * t + k % 2;
                    const int out_y = y_block + warp * HIGH + h;
                    const int out_x = x_block + m * 16 + g + k / 2 * 8;
                    if (o >= O || out_y >= OH || out_x >= OW) continue;
                    const size_t place =
                        (static_cast<size_t>(n) * O + o) * OHW + out_y * OW + out_x;
                    float out = sum[h][m][q][k];
                    if (AFTER == BIAS || AFTER == RELU) out += extra[o];
                    if (AFTER == RELU) out = out > 0.f ? out : 0.f;
                    if (AFTER == MASK) out = extra[place] > 0.f ? out : 0.f;
                    y[place] = out;
                }
}

// --- gradient to the weights and the bias --------------------------------------------------------

constexpr int STRIP_X = 32, STRIP_Y = 2;  // pixels of dy that a block takes at a time

// The smallest number from `size` on that is 4, 12, 20 or 28 in excess of 32s: then eight of them,
// four numbers from each, take all 32 banks.
__host__ __device__ constexpr int spread_by_four(int size) { return (size + 3) / 8 * 8 + 4; }

// Partial sums, as conv3x3_weights leaves them for conv3x3_weights_sum. A warp has 32 outputs and 8
// input channels, all nine taps of them, and a block WARPS such channels' eights, over every
// gridDim.x-th strip of pixels.
//
// part[block][row][o]: rows 9 c + tap of the sums, then one row for the bias
// grid = (number of partial sums, ceil(C / (8 WARPS)), ceil(O / 32)), block = 32 WARPS
template <int WARPS, int DILATION>
__global__ void __launch_bounds__(32 * WARPS, 16 / WARPS)
conv3x3_weights_tf32(const float* __restrict__ x,   // N x C x H x W
                     const float* __restrict__ dy,  // N x O x OH x OW
                     float* __restrict__ part,      // gridDim.x x (9 C + 1) x O
                     int N, int C, int H, int W, int O, int OH, int OW, int pad)
{
    constexpr int ROWS = STRIP_Y + 2 * DILATION, COLUMNS = STRIP_X + 2 * DILATION;
    constexpr int PIXELS = (ROWS * COLUMNS + 31) / 32;  // of a channel's tile that a lane loads
    constexpr int TILE_C = 8 * WARPS, OUTPUTS = TILE_O / WARPS;  // outputs whose dy a warp loads
    constexpr int PARTS_O = TILE_O / 16;  // products one above another

    __shared__ unsigned input[TILE_C][spread_by_four(ROWS * COLUMNS)];
    __shared__ unsigned error[TILE_O][spread_by_four(STRIP_X * STRIP_Y)];

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int c_block = blockIdx.y * TILE_C, o_block = blockIdx.z * TILE_O;
    const int tiles_x = (OW + STRIP_X - 1) / STRIP_X, tiles_y = (OH + STRIP_Y - 1) / STRIP_Y;
    const int tiles = N * tiles_x * tiles_y, HW = H * W, OHW = OH * OW;

    float sum[PARTS_O][9][4] = {};
    float bias[OUTPUTS] = {};  // of the dy that this lane loads

    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int n = tile / (tiles_x * tiles_y);
        const int x_block = tile % tiles_x * STRIP_X, y_block = tile / tiles_x % tiles_y * STRIP_Y;
        const float* image = x + static_cast<size_t>(n) * C * HW;
        const float* map = dy + static_cast<size_t>(n) * O * OHW;
        int from[PIXELS];
#pragma unroll
        for (int k = 0; k < PIXELS; ++k) {
            const int i = lane + 32 * k;
            const int in_y = y_block + i / COLUMNS - pad, in_x = x_block + i % COLUMNS - pad;
            from[k] = in_y >= 0 && in_y < H && in_x >= 0 && in_x < W ? in_y * W + in_x : -1;
        }
#pragma unroll 4
        for (int c = warp; c < TILE_C; c += WARPS)
#pragma unroll
            for (int k = 0; k < PIXELS; ++k) {
                const float pixel =
                    from[k] >= 0 && c_block + c < C ? image[(c_block + c) * HW + from[k]] : 0.f;
                if (lane + 32 * k < ROWS * COLUMNS) input[c][lane + 32 * k] = to_tf32(pixel);
            }
        const int out_x = x_block + lane;
#pragma unroll
        for (int q = 0; q < OUTPUTS; ++q)
#pragma unroll
            for (int r = 0; r < STRIP_Y; ++r) {
                const int o = warp * OUTPUTS + q;
                const bool inside = o_block + o < O && y_block + r < OH && out_x < OW;
                const float value =
                    inside ? map[(o_block + o) * OHW + (y_block + r) * OW + out_x] : 0.f;
                bias[q] += value;
                error[o][r * STRIP_X + lane] = to_tf32(value);
            }
        __syncthreads();

#pragma unroll 1
        for (int r = 0; r < STRIP_Y; ++r)
#pragma unroll 1
            for (int s = 0; s < STRIP_X; s += 8) {
                unsigned a[PARTS_O][4];
#pragma unroll
                for (int m = 0; m < PARTS_O; ++m) {
                    const int place = r * STRIP_X + s + t;
                    a[m][0] = error[m * 16 + g][place];
                    a[m][1] = error[m * 16 + g + 8][place];
                    a[m][2] = error[m * 16 + g][place + 4];
                    a[m][3] = error[m * 16 + g + 8][place + 4];
                }
#pragma unroll
                for (int tap = 0; tap < 9; ++tap) {
                    const int place =
                        (r + tap / 3 * DILATION) * COLUMNS + s + t + tap % 3 * DILATION;
                    const unsigned b[2] = {input[warp * 8 + g][place],
                                           input[warp * 8 + g][place + 4]};
#pragma unroll
                    for (int m = 0; m < PARTS_O; ++m) multiply_add(sum[m][tap], a[m], b);
                }
            }
        __syncthreads();
    }

    float* mine = part + static_cast<size_t>(blockIdx.x) * (9 * C + 1) * O;
#pragma unroll
    for (int m = 0; m < PARTS_O; ++m)
#pragma unroll
        for (int tap = 0; tap < 9; ++tap)
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const int o = o_block + m * 16 + g + k / 2 * 8;
                const int c = c_block + warp * 8 + 2 * t + k % 2;
                if (o < O && c < C) mine[static_cast<size_t>(9 * c + tap) * O + o] = sum[m][tap][k];
            }
#pragma unroll
    for (int q = 0; q < OUTPUTS; ++q) {
#pragma unroll
        for (int other = 16; other > 0; other /= 2)
            bias[q] += __shfl_xor_sync(0xffffffffu, bias[q], other);
        const int o = o_block + warp * OUTPUTS + q;
        if (lane == 0 && blockIdx.y == 0 && o < O)
            mine[static_cast<size_t>(9 * C) * O + o] = bias[q];
    }
}
