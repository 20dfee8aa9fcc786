// From responses to boxes, on the device: the peak of every map, the best scale, the move (Sec. 4.1
// of the paper).
//
//   best scale = the first with the largest peak * penalty,
//   (row, column) = its peak, past the middle negative,
//   centre += (column, row) * window / N,   size = clip(window / (1 + padding), smallest, largest)
//
// and whether it is believed:
//
//   sure = score >= max(min_score, min_share * min_share_decay^(unsure frames) * usual score)
//          and psr >= min_psr
//
// Layout: maps (M, H, W), M = T targets x S scales, scales of a target together; maps_f (M, bins),
//   their half spectra of `columns` columns, those of the highest frequencies may be missing;
//   penalties, factors (S) double; windows (M, 4) and update_windows (T, 4) double: cx, cy, w, h,
//   what crop.cu reads; ranges (M, 3, 2) and update_ranges (T, 3, 2) float: smallest and largest
//   value of each colour, see ranges.cuh; the state of a target 14 doubles:
//     0 cx  1 cy  2 w  3 h  4 smallest w  5 smallest h  6 largest w  7 largest h
//     8 usual score  9 unsure frames in a row  10 to 13 cx, cy, w, h in the last sure frame
//   and its result 9 doubles:
//     0 x  1 y  2 w  3 h (top-left corner, 0-based)  4 sure  5 score  6 psr
//     7 index of the scale, -1 for no response  8 unsure frames in a row
// Reference: dcfnet_np.tracking: `PlainStep._find`, `Target.move`, `Target.judge`, `response`; to
//   the bit but for score and psr.
// Launch: map_peaks with grid = (M), block = 512; then move_targets with grid = (T), block = 128.
//
// Version 1: the maps come to the host.
// Version 2, this one: a block a map, then a block a target; nothing comes back but the result, so
//   that a frame is one chain of launches.
#include "complex.cuh"
#include "ranges.cuh"
#include "rounding.cuh"

constexpr int PEAK_THREADS = 512;
constexpr int EXCLUDE = 5;  // rows and columns around the peak that are not sidelobe, either side

// One candidate for the maximum: a larger value wins, then the smaller rank; NaN wins over all, as
// in NumPy.
template <class T> struct Candidate {
    T value;
    int rank;
};

template <class T>
__device__ __forceinline__ bool wins(const Candidate<T>& a, const Candidate<T>& b)
{
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    if (a_nan != b_nan) return a_nan;
    if (!a_nan && a.value != b.value) return a.value > b.value;
    return a.rank < b.rank;
}

// Per map: the largest value, its row-major index, and the sums of all values and of their squares.
// BY_COLUMNS: of several equal peaks the first of a walk down the columns wins (MATLAB), else along
// the rows.
//
// grid = (M), block = 512
template <class T, bool BY_COLUMNS>
__global__ void __launch_bounds__(PEAK_THREADS)
map_peaks(const T* __restrict__ maps, T* __restrict__ peaks, int* __restrict__ indices,
          double* __restrict__ sums, int H, int W)
{
    __shared__ T values[PEAK_THREADS];
    __shared__ int ranks[PEAK_THREADS];
    __shared__ double totals[PEAK_THREADS], squares[PEAK_THREADS];
    const int t = threadIdx.x, pixels = H * W;
    const T* map = maps + static_cast<size_t>(blockIdx.x) * pixels;
    Candidate<T> best{map[0], 0};  // for every thread: it cannot win twice
    double total = 0, square = 0;
    for (int i = t; i < pixels; i += PEAK_THREADS) {
        const T value = map[i];
        const Candidate<T> here{value, BY_COLUMNS ? i % W * H + i / W : i};
        if (wins(here, best)) best = here;
        total += value;
        square += static_cast<double>(value) * value;
    }
    values[t] = best.value;
    ranks[t] = best.rank;
    totals[t] = total;
    squares[t] = square;
    for (int half = PEAK_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) {
            const Candidate<T> other{values[t + half], ranks[t + half]};
            if (wins(other, Candidate<T>{values[t], ranks[t]})) {
                values[t] = other.value;
                ranks[t] = other.rank;
            }
            totals[t] += totals[t + half];
            squares[t] += squares[t + half];
        }
    }
    if (t > 0) return;
    const int rank = ranks[0];
    peaks[blockIdx.x] = values[0];
    indices[blockIdx.x] = BY_COLUMNS ? rank % H * W + rank / H : rank;
    sums[2 * blockIdx.x] = totals[0];
    sums[2 * blockIdx.x + 1] = squares[0];
}

__device__ __forceinline__ bool is_finite(double value) { return value - value == 0; }

// How well a target was recognised, from 0 to 1: dcfnet_np.tracking.response.score_of.
// amplitude: the sum of those of all bins.
__device__ __forceinline__ double score_of(double peak, double amplitude, int pixels)
{
    return peak > 1 ? fmin(peak * pixels / amplitude, 1.) : peak;
}

// Per target: choose, move, clamp, judge, and leave the windows of the update and of the next frame
// behind, their ranges empty. A target whose windows are flat, or whose responses hold NaN or
// infinity at any scale, has no response. One that has none, or none above zero, stays where it is.
// One that is not sure has the rate 0 and the size that it had when it was sure. The threads share
// out the peak's neighbourhood, then the first one does the rest.
//
// grid = (T), block = 128
template <class T>
__global__ void __launch_bounds__(128)
move_targets(const T* __restrict__ maps, const Complex<T>* __restrict__ maps_f,
             const T* __restrict__ peaks, const int* __restrict__ indices,
             const double* __restrict__ sums, const double* __restrict__ penalties,
             const double* __restrict__ factors, double* __restrict__ state,
             double* __restrict__ windows, double* __restrict__ update_windows,
             T* __restrict__ rates, double* __restrict__ results, float* __restrict__ ranges,
             float* __restrict__ update_ranges, int S, int H, int W, int bins, int columns,
             double padding, T rate, int wrap_before_half, int update_on_window, double min_score,
             double min_share, double min_share_decay, double min_psr, double usual_rate)
{
    __shared__ double totals[128], squares[128], amplitudes[128];
    const int t = threadIdx.x, first = blockIdx.x * S;
    bool answered = !is_flat(ranges + 2 * COLOURS * first, S);
    int best = 0;
    double highest = peaks[first] * penalties[0];
    for (int s = 0; s < S; ++s) {
        const double value = peaks[first + s] * penalties[s];
        // the sum sees minus infinity
        answered = answered && is_finite(value) && is_finite(sums[2 * (first + s)]);
        if (value > highest) {
            highest = value;
            best = s;
        }
    }
    const bool ok = answered && highest > 0;

    // The sum over the peak's neighbourhood, which wraps around.
    const T* map = maps + static_cast<size_t>(first + best) * H * W;
    const int index = indices[first + best], row = index / W, column = index % W;
    constexpr int SIDE = 2 * EXCLUDE + 1;
    const int count = H * W - SIDE * SIDE;
    double total = 0, square = 0;
    if (ok && count > 0)
        for (int i = t; i < SIDE * SIDE; i += 128) {
            const int r = (row + i / SIDE - EXCLUDE + EXCLUDE * H) % H;
            const int c = (column + i % SIDE - EXCLUDE + EXCLUDE * W) % W;
            const double value = map[r * W + c];
            total += value;
            square += value * value;
        }
    // The sum over the whole spectrum, of which half is stored.
    double amplitude = 0;
    if (ok && peaks[first + best] > 1)
        for (int i = t; i < bins; i += 128) {
            const Complex<T> wave = maps_f[static_cast<size_t>(first + best) * bins + i];
            const double x = wave.x, y = wave.y, length = sqrt(x * x + y * y);
            const int c = i % columns;
            amplitude += c == 0 || 2 * c == W ? length : 2 * length;
        }
    totals[t] = total;
    squares[t] = square;
    amplitudes[t] = amplitude;
    for (int half = 64; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) {
            totals[t] += totals[t + half];
            squares[t] += squares[t + half];
            amplitudes[t] += amplitudes[t + half];
        }
    }
    if (t > 0) return;

    double* target = state + 14 * static_cast<size_t>(blockIdx.x);
    double* result = results + 9 * static_cast<size_t>(blockIdx.x);
    const double* window = windows + 4 * static_cast<size_t>(first + best);
    double cx = target[0], cy = target[1], w = target[2], h = target[3];
    double psr = 0;
    double update_w = product(w, 1 + padding), update_h = product(h, 1 + padding);
    if (ok) {
        const double dx = column > (wrap_before_half ? W / 2 - 1 : W / 2) ? column - W : column;
        const double dy = row > (wrap_before_half ? H / 2 - 1 : H / 2) ? row - H : row;
        cx = sum(cx, product(dx, window[2]) / W);
        cy = sum(cy, product(dy, window[3]) / H);
        w = fmin(fmax(window[2] / (1 + padding), target[4]), target[6]);
        h = fmin(fmax(window[3] / (1 + padding), target[5]), target[7]);
        update_w = update_on_window ? window[2] : product(w, 1 + padding);
        update_h = update_on_window ? window[3] : product(h, 1 + padding);
        if (count > 0) {
            const double mean = (sums[2 * (first + best)] - totals[0]) / count;
            const double variance =
                (sums[2 * (first + best) + 1] - squares[0]) / count - mean * mean;
            if (variance > 0) psr = (peaks[first + best] - mean) / sqrt(variance);
        }
    }

    const double score = ok ? score_of(peaks[first + best], amplitudes[0], H * W) : 0.;
    const double share = product(min_share, pow(min_share_decay, target[9]));
    const double least = fmax(min_score, product(share, target[8]));
    const bool sure = score > 0 && score >= least && psr >= min_psr;
    if (sure) {
        const double weight = target[9] > 0 || target[8] == 0 ? 1. : usual_rate;
        target[8] = sum(target[8], product(weight, score - target[8]));
        target[9] = 0;
        target[10] = cx;
        target[11] = cy;
        target[12] = w;
        target[13] = h;
    } else {
        target[9] += 1;
        w = target[12];
        h = target[13];
    }
    target[0] = cx;
    target[1] = cy;
    target[2] = w;
    target[3] = h;
    rates[blockIdx.x] = sure ? rate : T(0);
    result[0] = cx - w / 2;
    result[1] = cy - h / 2;
    result[2] = w;
    result[3] = h;
    result[4] = sure;
    result[5] = score;
    result[6] = psr;
    result[7] = !answered ? -1 : ok ? best : 0;
    result[8] = target[9];
    double* update = update_windows + 4 * static_cast<size_t>(blockIdx.x);
    update[0] = cx;
    update[1] = cy;
    update[2] = update_w;
    update[3] = update_h;
    for (int s = 0; s < S; ++s) {
        double* next = windows + 4 * static_cast<size_t>(first + s);
        next[0] = cx;
        next[1] = cy;
        next[2] = product(product(factors[s], w), 1 + padding);
        next[3] = product(product(factors[s], h), 1 + padding);
        for (int c = 0; c < COLOURS; ++c) store_empty(ranges + 2 * (COLOURS * (first + s) + c));
    }
    for (int c = 0; c < COLOURS; ++c) store_empty(update_ranges + 2 * (COLOURS * blockIdx.x + c));
}
