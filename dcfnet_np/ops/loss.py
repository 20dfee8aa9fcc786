"""The response loss: the data term of the paper's Eq. 4, ||g - g~||^2, averaged over the batch.

The second term of Eq. 4, gamma * ||theta||^2, is weight decay and lives in the optimiser
(`train.optimisers`).
"""

from typing import NamedTuple

from ..backend import Array, array_module


class LossCache(NamedTuple):
    residual: Array  # (N, H, W), response - label


def response_loss_forward(response: Array, label: Array) -> tuple[float, LossCache]:
    """L = sum over pixels of (g - g~)^2, mean over the batch (Eq. 4).

    response g: (N, H, W); label g~: (H, W) or (N, H, W), the desired response with its peak where
    the target is.
    """
    array_module(response, label)
    if response.ndim != 3 or label.shape not in (response.shape, response.shape[1:]):
        raise ValueError(
            f"response_loss_forward: response must be (N, H, W) and label (H, W) or (N, H, W), "
            f"got {response.shape} and {label.shape}"
        )
    residual = response - label
    loss = float((residual * residual).sum()) / max(len(response), 1)
    return loss, LossCache(residual)


def response_loss_backward(cache: LossCache, dloss: float = 1.0) -> Array:
    """dL/dg = 2 (g - g~) / N, times the upstream `dloss`.  Returns dresponse: (N, H, W)."""
    return cache.residual * cache.residual.dtype.type(2 * dloss / max(len(cache.residual), 1))
