"""The feature extractors of the paper's Table 1: small lists of convolution, ReLU and LRN.

An architecture is a tuple of specs, walked from left to right by `forward`, from right to left by
`backward`. Parameters live apart from it, in a dict that names the convolutions in order::

    {"conv1.weight": (O, I, 3, 3), "conv1.bias": (O,), "conv2.weight": ...}

DCFNet is a Siamese network: template and search pass through the same parameters.  So the loss
depends on these along two paths, and by the chain rule the gradients of both paths add::

    template, template_caches = forward(template_images, parameters, "conv1", padding="valid")
    search, search_caches = forward(search_images, parameters, "conv1", padding="valid")
    ...
    _, by_template = backward(dtemplate, template_caches)
    _, by_search = backward(dsearch, search_caches)
    dparameters = {name: by_template[name] + by_search[name] for name in parameters}

(Both kinds of images stacked along N in one call give the same sum: gradients of a batch add too.)
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .backend import Array
from .ops.conv import conv2d_backward, conv2d_forward, output_size
from .ops.lrn import lrn_backward, lrn_forward
from .ops.relu import relu_backward, relu_forward

KERNEL = 3  # every convolution of every DCFNet is 3x3


class Conv(NamedTuple):
    """3x3 convolution with bias, stride 1; with dilation 2 its nine taps spread over 5x5 pixels."""

    c_in: int
    c_out: int
    dilation: int = 1


class Relu(NamedTuple):
    """max(x, 0)."""


class Lrn(NamedTuple):
    """Local response normalisation, x * (k + alpha * sum of squares over n channels)**-beta."""

    n: int = 5
    k: float = 1.0
    # per term of the sum, as MatConvNet has it; PyTorch's 1e-4 is divided by n = 5
    alpha: float = 1e-4 / 5
    beta: float = 0.75


Spec: TypeAlias = Conv | Relu | Lrn
Architecture: TypeAlias = tuple[Spec, ...]
Parameters: TypeAlias = dict[str, Array]

ARCHITECTURES: dict[str, Architecture] = {
    # The paper's DCFNet, 20,256 parameters.  No ReLU at the end: features are signed.
    "conv1": (Conv(3, 64), Relu(), Conv(64, 32), Lrn()),
    "conv1-dilation": (Conv(3, 64), Relu(), Conv(64, 32, dilation=2), Lrn()),
    "conv2": (
        *(Conv(3, 64), Relu(), Conv(64, 64), Relu(), Conv(64, 128), Relu(), Conv(128, 32)),
        Lrn(),
    ),
    # The network of the released 2.0 codes, 10,144 parameters.
    "light": (Conv(3, 32), Relu(), Conv(32, 32), Lrn()),
}


class LayerCache(NamedTuple):
    """What one layer of a forward pass leaves for the backward pass."""

    name: str  # "conv1", "relu1", "conv2", ..., "lrn1"
    spec: Spec
    cache: Any  # the op's own cache


def get_architecture(architecture: str | Architecture) -> Architecture:
    """The specs of a name of ARCHITECTURES, else ValueError; a tuple comes back as it is."""
    if not isinstance(architecture, str):
        return architecture
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"architecture must be one of {known}, got {architecture!r}")
    return ARCHITECTURES[architecture]


def layers(architecture: str | Architecture) -> list[tuple[str, Spec]]:
    """(name, spec) of every layer, forwards; names count per kind: conv1, relu1, conv2, lrn1."""
    count: dict[str, int] = {}
    named = []
    for spec in get_architecture(architecture):
        kind = type(spec).__name__.lower()
        count[kind] = count.get(kind, 0) + 1
        named.append((f"{kind}{count[kind]}", spec))
    return named


def parameter_shapes(architecture: str | Architecture) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter, in the order of the convolutions."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, spec in layers(architecture):
        if isinstance(spec, Conv):
            shapes[f"{name}.weight"] = (spec.c_out, spec.c_in, KERNEL, KERNEL)
            shapes[f"{name}.bias"] = (spec.c_out,)
    return shapes


def feature_size(size: int, architecture: str | Architecture, padding: str = "same") -> int:
    """Length in pixels of the feature map along one axis for an input of `size` pixels.

    125 stays 125 with padding "same"; with "valid" two convolutions make it 121.
    """
    for spec in get_architecture(architecture):
        if isinstance(spec, Conv):
            size = output_size(size, KERNEL, _zeros(spec, padding), spec.dilation)
    return size


def output_channels(architecture: str | Architecture) -> int:
    """Number of feature channels, c_out of the last convolution."""
    return [spec.c_out for spec in get_architecture(architecture) if isinstance(spec, Conv)][-1]


def initialise(architecture: str | Architecture, seed: int, dtype: Any = np.float32) -> Parameters:
    """Random parameters, on the CPU: weights normal with variance 2 / (9 * c_in), biases zero.

    The variance keeps the size of the activations from layer to layer where a ReLU drops half of
    them (He et al., Delving Deep into Rectifiers, 2015, Eq. 10).  The same seed gives the same
    values.
    """
    rng = np.random.default_rng(seed)
    parameters = {}
    for name, shape in parameter_shapes(architecture).items():
        if name.endswith(".bias"):
            parameters[name] = np.zeros(shape, dtype)
        else:
            fan_in = shape[1] * shape[2] * shape[3]
            parameters[name] = (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(dtype)
    return parameters


def check_parameters(architecture: str | Architecture, parameters: Parameters) -> None:
    """Raise ValueError unless these are the architecture's names and shapes, in one float dtype."""
    shapes = parameter_shapes(architecture)
    named = f"architecture {architecture!r}"
    title = named if isinstance(architecture, str) else "the architecture"
    for name in (*shapes, *parameters):
        if name not in parameters:
            got = ", ".join(parameters) or "none"
            raise ValueError(f"parameters must have {name!r} for {title}, got {got}")
        if name not in shapes:
            only = ", ".join(shapes)
            raise ValueError(f"parameters must have only {only} for {title}, got {name!r} too")
        shape = tuple(parameters[name].shape)
        if shape != shapes[name]:
            raise ValueError(
                f"parameters: {name} must have shape {shapes[name]} for {title}, got {shape}"
            )
    dtypes = {np.dtype(p.dtype) for p in parameters.values()}
    if len(dtypes) > 1 or not all(np.issubdtype(dtype, np.floating) for dtype in dtypes):
        got = ", ".join(sorted(map(str, dtypes)))
        raise ValueError(f"parameters must share one float dtype, got {got}")


def forward(
    x: Array, parameters: Parameters, architecture: str | Architecture, *, padding: str = "same"
) -> tuple[Array, list[LayerCache]]:
    """Features of a batch of images, and the caches that `backward` needs.

    x: (N, c_in, H, W), mean subtracted, dtype of the parameters.  Features: (N, c_out, H', W'),
    same dtype.
    `padding` says what the convolutions see beyond the border:
      "same"   zeros, as many as `dilation` on each side: H' = H.  All released codes track so.
      "valid"  nothing: each convolution takes 2 * dilation from H and W, 125 -> 121 for conv1.
               They train so: no zeros leak into the features.
    Raises ValueError for wrong shapes, parameters or padding, TypeError for a wrong dtype.
    """
    check_input(x, parameters, architecture, padding)
    caches = []
    for name, spec in layers(architecture):
        x, cache = layer_forward(x, name, spec, parameters, padding=padding)
        caches.append(cache)
    return x, caches


def layer_forward(
    x: Array, name: str, spec: Spec, parameters: Parameters, *, padding: str = "same"
) -> tuple[Array, LayerCache]:
    """One layer of `forward`."""
    cache: Any
    if isinstance(spec, Conv):
        w, b = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
        y, cache = conv2d_forward(x, w, b, padding=_zeros(spec, padding), dilation=spec.dilation)
    elif isinstance(spec, Relu):
        y, cache = relu_forward(x)
    else:
        y, cache = lrn_forward(x, **spec._asdict())
    return y, LayerCache(name, spec, cache)


def backward(
    dfeatures: Array, caches: list[LayerCache], *, input_gradient: bool = True
) -> tuple[Array | None, Parameters]:
    """Gradients of `forward`: the layers in reverse order, each handing its dx on as dy.

    dfeatures: (N, c_out, H', W').  Returns dx (N, c_in, H, W), which is None when `input_gradient`
    is false (training has no use for the gradient of the image), and the gradient of every
    parameter under its name, in forward order.
    """
    dy = dfeatures
    dparameters: Parameters = {}
    for depth, (name, spec, cache) in reversed(list(enumerate(caches))):
        if isinstance(spec, Conv):
            wanted = input_gradient or depth > 0
            dy, dw, db = conv2d_backward(dy, cache, input_gradient=wanted)
            dparameters = {f"{name}.weight": dw, f"{name}.bias": db, **dparameters}
        elif isinstance(spec, Relu):
            dy = relu_backward(dy, cache)
        else:
            dy = lrn_backward(dy, cache)
    return dy, dparameters


def features(
    x: Array, parameters: Parameters, architecture: str | Architecture, *, padding: str = "same"
) -> Array:
    """The features of `forward`, for tracking: no caches, so memory stays at a layer or two."""
    check_input(x, parameters, architecture, padding)
    for name, spec in layers(architecture):
        x, _ = layer_forward(x, name, spec, parameters, padding=padding)
    return x


def _zeros(spec: Conv, padding: str) -> int:
    """Pixels of zeros on each side of the input of one convolution."""
    if padding == "same":
        return spec.dilation * (KERNEL - 1) // 2
    if padding == "valid":
        return 0
    raise ValueError(f"padding must be 'same' or 'valid', got {padding!r}")


def check_input(
    x: Array, parameters: Parameters, architecture: str | Architecture, padding: str
) -> None:
    """Raise ValueError or TypeError for what `forward` does not take."""
    check_parameters(architecture, parameters)
    w = parameters["conv1.weight"]
    if x.ndim != 4 or x.shape[1] != w.shape[1]:
        raise ValueError(f"network: x must be (N, {w.shape[1]}, H, W), got shape {x.shape}")
    if x.dtype != w.dtype:
        raise TypeError(f"network: x must have the parameters' dtype {w.dtype}, got {x.dtype}")
    if min(feature_size(size, architecture, padding) for size in x.shape[2:]) < 1:
        raise ValueError(f"network: x is too small for padding {padding!r}, got shape {x.shape}")
