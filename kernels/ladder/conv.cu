// The 3x3 convolution in three steps that a reader can take in; the fourth is ../conv.cu.
//
// Formula     y[n,o,r,s] = b[o] + sum over c, i, j of w[o,c,i,j] x[n,c,r+i-1,s+j-1], 0 outside of x
// Layout      x N x C x H x W, w O x C x 3 x 3, b O, y N x O x H x W
// Reference   dcfnet_np.ops.conv: conv2d_forward
// Launch      dcfnet_np.kernels.ladder has grid and block of each
//
//   1  one number of y for each thread, all from global memory: 18 C reads for 9 C multiplications
//   2  a block keeps a tile of x, and its border, in shared memory: x is read nearly once
//   3  a thread makes eight outputs of one pixel in registers: each x from shared memory is used
//      eight times
//   4  ../conv.cu: several pixels a thread too, weights packed for 16-byte loads, results written
//      through shared memory, and what follows the convolution done on the way out

constexpr int TILE_X = 32, TILE_Y = 8;

// Version 1.  grid = (ceil(W / 32), ceil(H / 8), N * O), block = (32, 8)
template <class T>
__global__ void conv3x3_v1(const T* x, const T* w, const T* b, T* y, int C, int H, int W, int O)
{
    const int column = blockIdx.x * TILE_X + threadIdx.x, row = blockIdx.y * TILE_Y + threadIdx.y;
    const int n = blockIdx.z / O, o = blockIdx.z % O;
    if (row >= H || column >= W) return;
    T sum = b[o];
    for (int c = 0; c < C; ++c)
        for (int i = 0; i < 3; ++i)
            for (int j = 0; j < 3; ++j) {
                const int r = row + i - 1, s = column + j - 1;
                if (r >= 0 && r < H && s >= 0 && s < W)
                    sum += w[((o * C + c) * 3 + i) * 3 + j] * x[((n * C + c) * H + r) * W + s];
            }
    y[((n * O + o) * H + row) * W + column] = sum;
}

// One channel of the tile and its border of one pixel, zeros outside of the image.
template <class T>
__device__ void load_tile(T (&tile)[TILE_Y + 2][TILE_X + 2], const T* plane, int H, int W)
{
    for (int k = threadIdx.y * TILE_X + threadIdx.x; k < (TILE_Y + 2) * (TILE_X + 2);
         k += TILE_X * TILE_Y) {
        const int r = blockIdx.y * TILE_Y + k / (TILE_X + 2) - 1;
        const int s = blockIdx.x * TILE_X + k % (TILE_X + 2) - 1;
        const bool inside = r >= 0 && r < H && s >= 0 && s < W;
        tile[k / (TILE_X + 2)][k % (TILE_X + 2)] = inside ? plane[r * W + s] : T(0);
    }
}

// Version 2.  grid and block as for version 1
template <class T>
__global__ void conv3x3_v2(const T* x, const T* w, const T* b, T* y, int C, int H, int W, int O)
{
    __shared__ T tile[TILE_Y + 2][TILE_X + 2];
    const int column = blockIdx.x * TILE_X + threadIdx.x, row = blockIdx.y * TILE_Y + threadIdx.y;
    const int n = blockIdx.z / O, o = blockIdx.z % O;
    T sum = b[o];
    for (int c = 0; c < C; ++c) {
        load_tile(tile, x + (n * C + c) * H * W, H, W);
        __syncthreads();  // all of the tile is there
        for (int i = 0; i < 3; ++i)
            for (int j = 0; j < 3; ++j)
                sum += w[((o * C + c) * 3 + i) * 3 + j] * tile[threadIdx.y + i][threadIdx.x + j];
        __syncthreads();  // nobody reads it any more: the next channel may come
    }
    if (row < H && column < W) y[((n * O + o) * H + row) * W + column] = sum;
}

// Version 3.  grid = (ceil(W / 32), ceil(H / 8), N * ceil(O / 8)), block = (32, 8)
template <class T>
__global__ void conv3x3_v3(const T* x, const T* w, const T* b, T* y, int C, int H, int W, int O)
{
    constexpr int MANY = 8;  // outputs of a thread
    __shared__ T tile[TILE_Y + 2][TILE_X + 2];
    __shared__ T weight[9][MANY];
    const int column = blockIdx.x * TILE_X + threadIdx.x, row = blockIdx.y * TILE_Y + threadIdx.y;
    const int groups = (O + MANY - 1) / MANY;
    const int n = blockIdx.z / groups, first = blockIdx.z % groups * MANY;
    const int thread = threadIdx.y * TILE_X + threadIdx.x;
    T sum[MANY];
#pragma unroll
    for (int q = 0; q < MANY; ++q) sum[q] = first + q < O ? b[first + q] : T(0);
    for (int c = 0; c < C; ++c) {
        load_tile(tile, x + (n * C + c) * H * W, H, W);
        if (thread < 9 * MANY) {
            const int tap = thread / MANY, o = first + thread % MANY;
            weight[tap][thread % MANY] = o < O ? w[(o * C + c) * 9 + tap] : T(0);
        }
        __syncthreads();
        for (int tap = 0; tap < 9; ++tap) {
            const T value = tile[threadIdx.y + tap / 3][threadIdx.x + tap % 3];
#pragma unroll
            for (int q = 0; q < MANY; ++q) sum[q] += weight[tap][q] * value;
        }
        __syncthreads();
    }
    if (row >= H || column >= W) return;
#pragma unroll
    for (int q = 0; q < MANY; ++q)
        if (first + q < O) y[((n * O + first + q) * H + row) * W + column] = sum[q];
}
