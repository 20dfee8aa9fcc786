// Complex numbers for the kernels: CUDA's built-in float2 and double2, which NumPy and CuPy call
// complex64 and complex128.
#pragma once

template <class T> struct ComplexOf;
template <> struct ComplexOf<float> { using type = float2; };
template <> struct ComplexOf<double> { using type = double2; };
template <class T> using Complex = typename ComplexOf<T>::type;

__device__ __forceinline__ float2 complex(float re, float im) { return make_float2(re, im); }
__device__ __forceinline__ double2 complex(double re, double im) { return make_double2(re, im); }

// a b
template <class C> __device__ __forceinline__ C multiply(C a, C b)
{
    return complex(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

// conj(a) b
template <class C> __device__ __forceinline__ C multiply_conj(C a, C b)
{
    return complex(a.x * b.x + a.y * b.y, a.x * b.y - a.y * b.x);
}

// |a|^2
template <class C> __device__ __forceinline__ auto norm(C a) { return a.x * a.x + a.y * a.y; }
