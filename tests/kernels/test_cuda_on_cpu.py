"""The stand-in itself: does it do what CUDA does, and does it notice what it should?"""

import shutil

import cuda_on_cpu
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    not shutil.which("g++"), reason="no g++ to compile kernels for the CPU"
)

SOURCE = r"""
extern "C" __global__ void shuffles(int* out)  // 6 x 32
{
    const int i = threadIdx.x;
    out[i] = __shfl_sync(0xffffffffu, i, 5);
    out[32 + i] = __shfl_xor_sync(0xffffffffu, i, 3);
    out[64 + i] = __shfl_down_sync(0xffffffffu, i, 4);
    out[96 + i] = __shfl_up_sync(0xffffffffu, i, 4, 16);
    out[128 + i] = __ballot_sync(0xffffffffu, i % 3 == 0);
    if (i < 8) out[160 + i] = __shfl_down_sync(0x000000ffu, i, 1, 8);
}
template <int BINS> __global__ void histogram(const int* x, int* count, int n)
{
    __shared__ int part[BINS];
    if (threadIdx.x < BINS) part[threadIdx.x] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        atomicAdd(&part[x[i]], 1);
    __syncthreads();
    if (threadIdx.x < BINS) atomicAdd(&count[threadIdx.x], part[threadIdx.x]);
}
template <bool SYNC> __global__ void reverse(float* x)
{
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    if (SYNC) __syncthreads();
    x[threadIdx.x] = s[63 - threadIdx.x];
}
template <class T> struct alignas(16) Four { T v[4]; };
template <class T, bool SYNC> __global__ void reverse_fours(const T* x, T* y)
{
    alignas(16) __shared__ T s[256];
    *reinterpret_cast<Four<T>*>(&s[4 * threadIdx.x]) =
        reinterpret_cast<const Four<T>*>(x)[threadIdx.x];
    if (SYNC) __syncthreads();
    reinterpret_cast<Four<T>*>(y)[threadIdx.x] =
        *reinterpret_cast<const Four<T>*>(&s[4 * (63 - threadIdx.x)]);
}
template <int SHIFT> __global__ void sum_fours(const float* x, float* y)
{
    const Four<float> four = *reinterpret_cast<const Four<float>*>(x + 4 * threadIdx.x + SHIFT);
    y[threadIdx.x] = four.v[0] + four.v[3];
}
// Swaps pairs, warp by warp, without a barrier for the block.
extern "C" __global__ void neighbours(int* x)
{
    __shared__ int s[2][64];
    for (int i = 0; i < 3; ++i) {
        s[i % 2][threadIdx.x] = i ? s[1 - i % 2][threadIdx.x ^ 1] : x[threadIdx.x];
        __syncwarp(0xffffffffu);
    }
    x[threadIdx.x] = s[0][threadIdx.x ^ 1];
}
extern "C" __global__ void sum(float* x, float* total)
{
    *total += x[blockIdx.x * blockDim.x + threadIdx.x];
}
extern "C" __global__ void outside(float* x) { x[threadIdx.x] = 0.f; }
extern "C" __global__ void divergent(unsigned n) { if (threadIdx.x < n) __syncthreads(); }
extern "C" __global__ void half_a_warp() { if (threadIdx.x < 16) __syncwarp(0xffffffffu); }
extern "C" __global__ void unset(float* x)
{
    __shared__ float s[2];
    if (threadIdx.x) s[0] = 1;
    *x = s[1];
}
template <int N> __global__ void local(float* x)
{
    float a[4] = {};
    for (int i = 0; i < N; ++i) a[i] += x[i];
    x[0] = a[0] + a[3];
}
extern "C" __global__ void half_a_product()
{
    float d[4] = {};
    unsigned a[4] = {}, b[2] = {};
    if (threadIdx.x < 16) cuda_on_cpu::mma_m16n8k8_tf32("here", d, a, b);
}
"""
NAMES = [
    "shuffles", "neighbours", "histogram<10>", "reverse<true>", "reverse<false>", "sum", "outside",
    "divergent", "half_a_warp", "unset", "reverse_fours<double, true>",
    "reverse_fours<double, false>", "sum_fours<0>", "sum_fours<1>", "sum_fours<4>", "sum_fours<-4>",
    "local<4>", "local<5>", "half_a_product",
]  # fmt: skip


@pytest.fixture(params=["ascending", "descending", "shuffled"])
def kernel(request, monkeypatch):
    monkeypatch.setattr(
        cuda_on_cpu.Kernel, "seed", ["ascending", "descending", "shuffled"].index(request.param)
    )
    return cuda_on_cpu.RawModule(SOURCE, name_expressions=NAMES).get_function


def test_warp_functions(kernel):
    out = np.full((6, 32), -1, np.int32)
    kernel("shuffles")((1,), (32,), (out,))
    i = np.arange(32)
    assert (
        (out[0] == 5).all()
        and (out[1] == i ^ 3).all()
        and (out[2] == np.where(i < 28, i + 4, i)).all()
    )
    assert (out[3] == np.where(i % 16 >= 4, i - 4, i)).all()
    assert (out[4].view(np.uint32) == sum(1 << b for b in range(0, 32, 3))).all()
    assert out[5].tolist() == [1, 2, 3, 4, 5, 6, 7, 7] + [-1] * 24


def test_warps_may_synchronise_by_themselves(kernel):
    x = np.arange(64, dtype=np.int32)
    kernel("neighbours")((1,), (64,), (x,))
    assert (x == np.arange(64) ^ 1).all()


def test_shared_memory_and_atomics(kernel):
    x, count = (
        np.random.default_rng(0).integers(0, 10, 5000, dtype=np.int32),
        np.zeros(10, np.int32),
    )
    kernel("histogram<10>")((3,), (96,), (x, count, np.int32(5000)))
    assert (count == np.bincount(x)).all()


def test_a_missing_barrier_shows(kernel):
    x = np.arange(64, dtype=np.float32)
    kernel("reverse<true>")((1,), (64,), (x,))
    assert (x == np.arange(64)[::-1]).all()
    with pytest.raises(cuda_on_cpu.LaunchError, match="shared memory"):
        kernel("reverse<false>")((1,), (64,), (x,))


def test_a_missing_barrier_shows_with_loads_of_four_values(kernel):
    x, y = np.arange(256, dtype=np.float64), np.zeros(256)
    kernel("reverse_fours<double, true>")((1,), (64,), (x, y))
    assert (y == x.reshape(64, 4)[::-1].ravel()).all()
    with pytest.raises(cuda_on_cpu.LaunchError, match="shared memory"):
        kernel("reverse_fours<double, false>")((1,), (64,), (x, np.zeros_like(x)))


@pytest.mark.parametrize(
    "shift, message", [(1, "misaligned"), (4, "outside of every"), (-4, "outside of every")]
)
def test_loads_of_four_values_outside_and_misaligned(kernel, shift, message):
    x, y = np.arange(24, dtype=np.float32), np.zeros(4, np.float32)
    kernel("sum_fours<0>")((1,), (4,), (x[4:20], y))
    assert y.tolist() == [11, 19, 27, 35]
    with pytest.raises(cuda_on_cpu.LaunchError, match=message):
        kernel(f"sum_fours<{shift}>")((1,), (4,), (x[4:20], y))


def test_uninitialised_shared_memory(kernel):
    x = np.zeros(1, np.float32)
    with pytest.raises(cuda_on_cpu.LaunchError, match="no thread has written"):
        kernel("unset")((1,), (1,), (x,))


def test_an_index_outside_of_a_local_array(kernel):
    x = np.ones(5, np.float32)
    kernel("local<4>")((1,), (1,), (x,))
    assert x[0] == 2
    with pytest.raises(cuda_on_cpu.LaunchError, match="index 4 outside of an array"):
        kernel("local<5>")((1,), (1,), (x,))


@pytest.mark.parametrize("grid, block", [(1, 10), (10, 1)])
def test_a_race(kernel, grid, block):
    with pytest.raises(cuda_on_cpu.LaunchError, match="array 1"):
        kernel("sum")((grid,), (block,), (np.zeros(10, np.float32), np.zeros(1, np.float32)))


def test_writing_outside_an_array(kernel):
    x = np.ones(40, np.float32)
    kernel("outside")((1,), (10,), (x[10:20],))
    assert x.sum() == 30
    with pytest.raises(
        cuda_on_cpu.LaunchError, match="outside of every array: block .* at .*:[0-9]+"
    ):
        kernel("outside")((1,), (11,), (x[10:20],))


@pytest.mark.parametrize(
    "name, block, args",
    [("divergent", 64, (np.uint32(40),)), ("half_a_warp", 32, ()), ("half_a_product", 32, ())],
)
def test_barriers_not_all_threads_reach(kernel, name, block, args):
    with pytest.raises(cuda_on_cpu.LaunchError, match="not all"):
        kernel(name)((1,), (block,), args)
    kernel("reverse<true>")((1,), (64,), (np.zeros(64, np.float32),))  # and the next launch works


@pytest.mark.parametrize(
    "args",
    [(), (1,), (1.0,), (np.int64(1),), (np.int32(1),), (np.float32(1),), (np.zeros(1, np.int32),)],
)
def test_wrong_arguments(kernel, args):
    with pytest.raises(TypeError):
        kernel("divergent")((1,), (1,), args)


def test_arrays_must_be_contiguous(kernel):
    with pytest.raises(TypeError, match="not contiguous"):
        kernel("outside")((1,), (1,), (np.zeros(4, np.float32)[::2],))


@pytest.mark.parametrize(
    "grid, block", [((1,), (1025,)), ((1,), (0,)), ((1, 65536), (1,)), ((0,), (1,))]
)
def test_wrong_sizes(kernel, grid, block):
    with pytest.raises(cuda_on_cpu.LaunchError, match="invalid"):
        kernel("divergent")(grid, block, (np.uint32(0),))


def test_unwatched_computes_the_same_and_notices_nothing():
    kernel = cuda_on_cpu.unwatched.RawModule(SOURCE, name_expressions=NAMES).get_function
    x = np.arange(64, dtype=np.float32)
    kernel("reverse<true>")((1,), (64,), (x,))
    assert (x == np.arange(64)[::-1]).all()
    kernel("sum")((1,), (10,), (np.ones(10, np.float32), np.zeros(1, np.float32)))


def test_empty_arrays_are_full_of_nan():
    assert np.isnan(cuda_on_cpu.empty((2, 3), np.float32)).all()
    assert np.isnan(cuda_on_cpu.unwatched.empty(4, np.complex64)).all()
    assert (cuda_on_cpu.empty_like(np.zeros((3, 0, 2), np.int32)) == -1).all()
    assert cuda_on_cpu.empty((), np.float64).shape == ()
    assert cuda_on_cpu.empty_like(np.zeros((2, 2), np.int32), np.float64).dtype == np.float64
    assert cuda_on_cpu.zeros(2).tolist() == [0, 0] and cuda_on_cpu.cuda.is_available()


def test_a_capture_runs_later_with_the_arrays_of_the_capture(kernel):
    x, stream = np.arange(64, dtype=np.float32), cuda_on_cpu.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        kernel("reverse<true>")((1,), (64,), (x,))
        for forbidden in (
            stream.synchronize,
            lambda: cuda_on_cpu.empty(3),
            lambda: cuda_on_cpu.RawModule(""),
        ):
            with pytest.raises(cuda_on_cpu.LaunchError, match="in a capture"):
                forbidden()
        graph = stream.end_capture()
        assert (x == np.arange(64)).all()
        graph.launch(stream)
        assert (x == np.arange(64)[::-1]).all()
        x[...] = 7 * np.arange(64)
        graph.launch(stream)
        assert (x == 7 * np.arange(64)[::-1]).all()
    with pytest.raises(cuda_on_cpu.LaunchError, match="default stream"):
        cuda_on_cpu.cuda.get_current_stream().begin_capture()


def test_the_current_device_and_what_happened_on_which():
    cuda_on_cpu.devices_used.clear()
    assert cuda_on_cpu.cuda.Device().id == 0
    with cuda_on_cpu.cuda.Device(3), cuda_on_cpu.cuda.Device(1):
        cuda_on_cpu.zeros(3)
        assert cuda_on_cpu.cuda.Device().id == 1
    assert cuda_on_cpu.devices_used == {1} and cuda_on_cpu.cuda.Device().id == 0
