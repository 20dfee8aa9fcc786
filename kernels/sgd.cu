// Stochastic gradient descent with momentum and weight decay, all parameters in one flat buffer.
//
// Formulas    v = momentum * v + g + decay * p,   p = p - lr * v
//             decay is the gamma of gamma / 2 * |p|^2, so decay * p is its gradient.
// Paper       Sec. 4.1: SGD, momentum 0.9, weight decay 0.0005; Eq. 4's gamma |theta|^2 is the same
//             with half the gamma.
// Layout      p, g, v: one after another, `size` values
// Reference   dcfnet_np.train.optimisers.sgd_step
// Launch      sgd.py; grid = ceil(size / 256), block = 256
//
// Version ladder
//   1  (this one) one thread per value; 21,000 parameters are over in a launch's own time

template <class T>
__global__ void sgd_step(T* __restrict__ p, const T* __restrict__ g, T* __restrict__ v, int size,
                         T lr, T momentum, T decay)
{
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= size) return;
    const T step = momentum * v[i] + g[i] + decay * p[i];
    v[i] = step;
    p[i] -= lr * step;
}
