"""One DCFNet training step (a batch of pairs) on PyTorch autograd: the yardstick for the
hand-written step.
"""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F

from .torch_tracker import gaussian


def build(hidden=64, channels=32, device="cpu"):
    """Parameters of a two-layer network, He-normal."""
    generator = torch.Generator().manual_seed(0)

    def weight(*shape):
        scale = (2 / np.prod(shape[1:])) ** 0.5
        return (torch.randn(*shape, generator=generator) * scale).to(device).requires_grad_()

    zeros = [torch.zeros(n, device=device, requires_grad=True) for n in (hidden, channels)]
    return [weight(hidden, 3, 3, 3), zeros[0], weight(channels, hidden, 3, 3), zeros[1]]


def features(parameters, x, padding=1):
    w1, b1, w2, b2 = parameters
    x = F.conv2d(F.relu(F.conv2d(x, w1, b1, padding=padding)), w2, b2, padding=padding)
    return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1)


def step(parameters, optimiser, template, search, label, label_f, lam=1e-4, padding=1):
    """Forward, backward, update; returns the loss."""
    n = len(template)
    maps = features(parameters, torch.cat([template, search]), padding)
    template_f, search_f = torch.fft.rfft2(maps[:n]), torch.fft.rfft2(maps[n:])
    alpha = label_f / ((template_f.real**2 + template_f.imag**2).sum(1) + lam)
    response = torch.fft.irfft2((search_f * template_f.conj()).sum(1) * alpha, s=label.shape)
    loss = ((response - label) ** 2).sum() / n
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.item()


def make_step(images, parameters, label):
    """A function that does one step on images (2N, 3, H, W), templates first, without padding, and
    returns the loss.

    parameters: the four arrays of a network of two convolutions.
    """
    n = len(images) // 2
    images, label = torch.from_numpy(images), torch.from_numpy(label)
    tensors = [torch.from_numpy(value.copy()).requires_grad_() for value in parameters]
    optimiser = torch.optim.SGD(tensors, 1e-9, momentum=0.9, weight_decay=5e-4)
    label_f = torch.fft.rfft2(label)
    return lambda: step(tensors, optimiser, images[:n], images[n:], label, label_f, padding=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    parameters = build(args.hidden)
    optimiser = torch.optim.SGD(parameters, 1e-5, momentum=0.9, weight_decay=5e-4)
    rng = np.random.default_rng(0)
    shape = (args.batch, 3, 125, 125)
    template, search = (
        torch.from_numpy(rng.standard_normal(shape).astype(np.float32) * 50) for _ in range(2)
    )
    label = torch.from_numpy(gaussian(125, 125 / 2.5 * 0.1))
    label_f = torch.fft.rfft2(label)
    loss = step(parameters, optimiser, template, search, label, label_f)
    times = []
    for _ in range(args.steps):
        start = time.perf_counter()
        loss = step(parameters, optimiser, template, search, label, label_f)
        times.append(time.perf_counter() - start)
    median = np.median(times)
    rate = args.batch / median
    print(
        f"batch {args.batch}, 3->{args.hidden}->32: {median * 1e3:.0f} ms a step, {rate:.1f} pairs/s, loss {loss:.3f}"
    )


if __name__ == "__main__":
    main()
