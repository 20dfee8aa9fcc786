// s^-beta of the local response normalisation.
#pragma once

// s^-3/4, the beta of every network here, from square roots: several times as fast as a power.
__device__ __forceinline__ float power34(float s)
{
    const float r = rsqrtf(s);
    return r * (r * rsqrtf(r));
}

__device__ __forceinline__ double power34(double s)
{
    const double r = sqrt(s);
    return 1.0 / (r * sqrt(r));
}

__device__ __forceinline__ float power(float s, float beta)
{
    return beta == 0.75f ? power34(s) : powf(s, -beta);
}

__device__ __forceinline__ double power(double s, double beta)
{
    return beta == 0.75 ? power34(s) : pow(s, -beta);
}
