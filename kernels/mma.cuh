// Matrix products of a warp on tensor cores, in TF32: 8 bits of exponent as in float32, 10 of
// fraction.
//
// d (16 x 8) += a (16 x 8) b (8 x 8). With g = lane / 4 and t = lane % 4 a lane has
//   a[0] = A[g][t]   a[1] = A[g+8][t]     a[2] = A[g][t+4]   a[3] = A[g+8][t+4]
//   b[0] = B[t][g]   b[1] = B[t+4][g]
//   d[0] = D[g][2t]  d[1] = D[g][2t+1]    d[2] = D[g+8][2t]  d[3] = D[g+8][2t+1]
// (PTX ISA, "Matrix fragments for mma.m16n8k8"). Products are exact and sums are float32.
#pragma once

#if defined(__CUDA_ARCH__)

#if __CUDA_ARCH__ < 800
#error "TF32 needs compute capability 8.0 or newer"
#endif

// The nearest TF32, ties away from zero, as the bits of a float.
__device__ __forceinline__ unsigned to_tf32(float value)
{
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ void multiply_add(float (&d)[4], const unsigned (&a)[4],
                                             const unsigned (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#else  // the tests' stand-in for a GPU, which knows both

__device__ __forceinline__ unsigned to_tf32(float value) { return cuda_on_cpu::to_tf32(value); }

__device__ __forceinline__ void multiply_add(float (&d)[4], const unsigned (&a)[4],
                                             const unsigned (&b)[2])
{
    cuda_on_cpu::mma_m16n8k8_tf32(COC_HERE, d, a, b);
}

#endif
