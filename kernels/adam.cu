// Adam, and the running average of the parameters, over all of them in one flat buffer.
//
// Formulas    m = momentum * m + (1 - momentum) * g,   s = kept * s + (1 - kept) * g^2,
//             p = p - lr * (m / m_part / (sqrt(s / s_part) + epsilon) + decay * p),
//             a = a + share * (p - a)
//             m_part = 1 - momentum^t and s_part = 1 - kept^t after step t: the host computes them.
// Paper       none: an option beyond it.  Kingma and Ba, 2015, Algorithm 1; decay as by
//             Loshchilov and Hutter, 2019.
// Layout      p, g, m, s, a: one after another, `size` values
// Reference   dcfnet_np.train.optimisers.adam_step, update_average
// Launch      adam.py; grid = ceil(size / 256), block = 256
//
// Version ladder
//   1  (this one) one thread per value, as in sgd.cu

template <class T>
__global__ void adam_step(T* __restrict__ p, const T* __restrict__ g, T* __restrict__ m,
                          T* __restrict__ s, int size, T lr, T momentum, T m_part, T kept, T s_part,
                          T epsilon, T decay)
{
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= size) return;
    const T mean = m[i] + (1 - momentum) * (g[i] - m[i]);
    const T square = s[i] + (1 - kept) * (g[i] * g[i] - s[i]);
    m[i] = mean;
    s[i] = square;
    p[i] -= lr * (mean / m_part / (sqrt(square / s_part) + epsilon) + decay * p[i]);
}

template <class T>
__global__ void update_average(T* __restrict__ a, const T* __restrict__ p, int size, T share)
{
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i < size) a[i] += share * (p[i] - a[i]);
}
