"""DCFNet's tracker and its training step on PyTorch: what dcfnet_np must agree with and beat.

Written from the paper and the public constants of the released codes, kept apart from dcfnet_np on
purpose: it shares no line with the library, so that the two can check each other. Needs torch, and
opencv unless crops are made on the GPU. The network is two convolutions with a ReLU between.
"""

import numpy as np
import torch
import torch.nn.functional as F

SIZE = 125
SIGMA_FACTOR = 0.1
LAMBDA = 1e-4
SCALES = 3
MEAN_BGR = np.array([104, 117, 123], np.float32).reshape(3, 1, 1)
# edge: which sides of the frame bound width and height; the released code takes (h, w)
PRESETS = {
    "pytorch": {"padding": 2.0, "rate": 0.01, "step": 1.0275, "penalty": 0.9925, "edge": (0, 1)},
    "paper": {"padding": 1.5, "rate": 0.008, "step": 1.0375, "penalty": 1.0, "edge": (0, 1)},
    "default": {"padding": 2.0, "rate": 0.015, "step": 1.055, "penalty": 0.9975, "edge": (1, 0)},
}


def gaussian(size, sigma):
    axis = np.arange(size)
    distance = np.minimum(axis, size - axis).astype(np.float64)
    squares = distance[:, None] ** 2 + distance[None] ** 2
    return np.exp(-0.5 / sigma**2 * squares).astype(np.float32)


def load(path):
    """Weights and biases of the two convolutions, input channels in BGR order, from a .pth or a
    MatConvNet .mat. A list of these four arrays comes back as tensors.
    """
    if isinstance(path, list):
        return [torch.from_numpy(np.array(array)) for array in path]
    if str(path).endswith(".pth"):
        state = torch.load(path, weights_only=True)
        return [state[f"feature.{layer}.{kind}"] for layer in (0, 2) for kind in ("weight", "bias")]
    import scipy.io

    net = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["net"]
    (w1, b1), (w2, b2) = (layer.weights for layer in net.layers if layer.type == "conv")
    arrays = [w1.transpose(3, 2, 0, 1)[:, ::-1], b1, w2.transpose(3, 2, 0, 1), b2]
    return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]


def features(parameters, x, padding):
    w1, b1, w2, b2 = parameters
    x = F.conv2d(F.relu(F.conv2d(x, w1, b1, padding=padding)), w2, b2, padding=padding)
    return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1)


def learn_filter(label_f, template_f):
    return label_f / ((template_f.real**2 + template_f.imag**2).sum(1) + LAMBDA)


def use_threads(count):
    torch.set_num_threads(count)


def allow_tf32(on):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on
    torch.backends.cudnn.benchmark = True


class TorchTracker:
    """gpu_crop: windows are cut on the device, as `device` must be a GPU; compiled: its network."""

    def __init__(self, weights, preset="pytorch", device="cpu", gpu_crop=False, compiled=False):
        self.settings = PRESETS[preset]
        self.device, self.gpu_crop = device, gpu_crop
        self.parameters = [parameter.to(device) for parameter in load(weights)]
        self.features = torch.compile(features) if compiled else features
        self.grow = 1 + self.settings["padding"]
        hann = np.outer(np.hanning(SIZE), np.hanning(SIZE)).astype(np.float32)
        label = gaussian(SIZE, SIZE / self.grow * SIGMA_FACTOR)
        self.window = torch.from_numpy(hann).to(device)
        self.mean = torch.from_numpy(MEAN_BGR).to(device)
        self.label_f = torch.fft.rfft2(torch.from_numpy(label)).to(device)
        exponents = np.arange(SCALES) - SCALES // 2
        self.factors = self.settings["step"] ** exponents
        self.penalties = self.settings["penalty"] ** np.abs(exponents)

    def crop_by_opencv(self, image, windows):
        """(n, 3, SIZE, SIZE) in whole grey levels, as the released code cuts windows."""
        import cv2

        patches = []
        for window in windows:
            x0, y0 = self.centre - window / 2
            a, b = (SIZE - 1) / window[0], (SIZE - 1) / window[1]
            matrix = np.array([[a, 0, -a * x0], [0, b, -b * y0]])
            patches.append(cv2.warpAffine(image, matrix, (SIZE, SIZE)))
        return torch.from_numpy(np.stack(patches).transpose(0, 3, 1, 2)).to(self.device).float()

    def crop_on_gpu(self, image, windows):
        height, width = image.shape[:2]
        image = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float()
        step = torch.linspace(-0.5, 0.5, SIZE, device=self.device, dtype=torch.float64)
        sides = torch.from_numpy(np.array(windows)).to(self.device)
        x = (2 * (self.centre[0] + step * sides[:, :1]) + 1) / width - 1
        y = (2 * (self.centre[1] + step * sides[:, 1:]) + 1) / height - 1
        n = len(windows)
        x, y = x[:, None, :].expand(n, SIZE, SIZE), y[:, :, None].expand(n, SIZE, SIZE)
        grid = torch.stack([x, y], -1).float()
        image = image.expand(n, -1, -1, -1)
        return F.grid_sample(image, grid, align_corners=False).round()

    def features_f(self, image, windows):
        crop = self.crop_on_gpu if self.gpu_crop else self.crop_by_opencv
        maps = self.features(self.parameters, crop(image, windows) - self.mean, 1)
        return torch.fft.rfft2(maps * self.window)

    def learn(self, image, rate):
        template_f = self.features_f(image, [self.size * self.grow])
        alpha = learn_filter(self.label_f, template_f)
        if rate == 1:
            self.alpha, self.model = alpha, template_f
        else:
            self.alpha = (1 - rate) * self.alpha + rate * alpha
            self.model = (1 - rate) * self.model + rate * template_f

    @torch.inference_mode()
    def init(self, image, box):
        """box: (x, y, w, h), 0-based."""
        x, y, w, h = box
        self.centre, self.size = np.array([x + w / 2, y + h / 2]), np.array([w, h], float)
        edge = np.array([image.shape[side] for side in self.settings["edge"]])
        self.smallest = np.maximum(0.2 * self.size, 4)
        self.largest = np.minimum(edge, 5 * self.size)
        self.learn(image, 1)

    @torch.inference_mode()
    def update(self, image):
        windows = [self.size * factor * self.grow for factor in self.factors]
        search_f = self.features_f(image, windows)
        response_f = (search_f * self.model.conj()).sum(1) * self.alpha
        response = torch.fft.irfft2(response_f, s=(SIZE, SIZE)).cpu().numpy()
        best = int((response.reshape(SCALES, -1).max(1) * self.penalties).argmax())
        row, column = np.unravel_index(response[best].argmax(), (SIZE, SIZE))
        row, column = row - SIZE * (row > SIZE / 2), column - SIZE * (column > SIZE / 2)
        self.centre = self.centre + np.array([column, row]) * windows[best] / SIZE
        self.size = np.minimum(np.maximum(windows[best] / self.grow, self.smallest), self.largest)
        self.learn(image, self.settings["rate"])
        return np.r_[self.centre - self.size / 2, self.size]


class TorchStep:
    """Training steps without padding, by autograd and SGD, on crops that lie on the device.

    crops: (N, 3, H, W) uint8, BGR; parameters: the four arrays of the network; label: (H - 4,
    W - 4), the wish.
    """

    def __init__(self, crops, parameters, label, lr, device="cpu", compiled=False):
        self.crops, self.device = torch.from_numpy(crops).to(device), device
        self.mean = torch.from_numpy(MEAN_BGR).to(device)
        self.label = torch.from_numpy(label).to(device)
        self.label_f = torch.fft.rfft2(self.label)
        self.parameters = [array.to(device).requires_grad_() for array in load(parameters)]
        self.optimiser = torch.optim.SGD(self.parameters, lr, momentum=0.9, weight_decay=5e-4)
        self.loss = torch.compile(self.eager_loss) if compiled else self.eager_loss

    def eager_loss(self, images):
        template_f, search_f = torch.fft.rfft2(features(self.parameters, images, 0)).chunk(2)
        alpha = learn_filter(self.label_f, template_f)
        response_f = (search_f * template_f.conj()).sum(1) * alpha
        response = torch.fft.irfft2(response_f, s=self.label.shape)
        return ((response - self.label) ** 2).sum() / len(response)

    def step(self, pairs):
        """One step on pairs (B, 2) of indices into the crops, templates first; its loss, which
        nobody waits for.
        """
        index = torch.from_numpy(pairs.T.reshape(-1).copy()).to(self.device)
        loss = self.loss(self.crops[index].float() - self.mean)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()
