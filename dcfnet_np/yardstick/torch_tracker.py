"""The DCFNet tracker on PyTorch: the yardstick that dcfnet_np must agree with and beat.  Needs
torch and opencv.

Written from the paper and the public constants of the released codes, kept apart from dcfnet_np on
purpose: it shares no line with the library, so that the two can check each other.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

SIZE = 125
SIGMA_FACTOR = 0.1
LAMBDA = 1e-4
SCALES = 3
MEAN_BGR = np.array([104, 117, 123], np.float32).reshape(3, 1, 1)
PRESETS = {
    "pytorch": {"padding": 2.0, "learning_rate": 0.01, "step": 1.0275, "penalty": 0.9925},
    "paper": {"padding": 1.5, "learning_rate": 0.008, "step": 1.0375, "penalty": 1.0},
}


def gaussian(size, sigma):
    axis = np.arange(size)
    distance = np.minimum(axis, size - axis).astype(np.float64)
    return np.exp(-0.5 / sigma**2 * (distance[:, None] ** 2 + distance[None] ** 2)).astype(
        np.float32
    )


def crop(image, centre, window):
    x0, y0 = centre - window / 2
    a, b = (SIZE - 1) / window[0], (SIZE - 1) / window[1]
    matrix = np.array([[a, 0, -a * x0], [0, b, -b * y0]])
    patch = cv2.warpAffine(
        image, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0)
    )
    return patch.transpose(2, 0, 1)


def load(path):
    """Weights and biases of the two convolutions, input channels in BGR order, from a .pth or a
    MatConvNet .mat.

    A list of these four arrays comes back as tensors.
    """
    if isinstance(path, list):
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in path]
    if str(path).endswith(".pth"):
        state = torch.load(path, weights_only=True)
        return [state[f"feature.{layer}.{kind}"] for layer in (0, 2) for kind in ("weight", "bias")]
    import scipy.io

    net = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["net"]
    (w1, b1), (w2, b2) = (layer.weights for layer in net.layers if layer.type == "conv")
    arrays = [w1.transpose(3, 2, 0, 1)[:, ::-1], b1, w2.transpose(3, 2, 0, 1), b2]
    return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]


def use_threads(count):
    torch.set_num_threads(count)


class TorchTracker:
    def __init__(self, weights, preset="pytorch", device="cpu"):
        self.settings = PRESETS[preset]
        self.parameters = [parameter.to(device) for parameter in load(weights)]
        self.device = device
        self.window = torch.from_numpy(
            np.outer(np.hanning(SIZE), np.hanning(SIZE)).astype(np.float32)
        ).to(device)
        self.grow = 1 + self.settings["padding"]
        self.label_f = torch.fft.rfft2(
            torch.from_numpy(gaussian(SIZE, SIZE / self.grow * SIGMA_FACTOR))
        ).to(device)
        exponents = np.arange(SCALES) - SCALES // 2
        self.factors = self.settings["step"] ** exponents
        self.penalties = self.settings["penalty"] ** np.abs(exponents)

    def features_f(self, patches):
        w1, b1, w2, b2 = self.parameters
        x = torch.from_numpy(patches.astype(np.float32) - MEAN_BGR).to(self.device)
        x = F.conv2d(F.relu(F.conv2d(x, w1, b1, padding=1)), w2, b2, padding=1)
        x = F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1)
        return torch.fft.rfft2(x * self.window)

    def learn(self, image, rate):
        template_f = self.features_f(crop(image, self.centre, self.size * self.grow)[None])
        alpha = self.label_f / (
            (template_f.real**2 + template_f.imag**2).sum(1, keepdim=True) + LAMBDA
        )
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
        self.smallest = np.maximum(0.2 * self.size, 4)
        # (h, w) against (w, h), as the released code
        self.largest = np.minimum(image.shape[:2], 5 * self.size)
        self.learn(image, 1)

    @torch.inference_mode()
    def update(self, image):
        windows = [self.size * factor * self.grow for factor in self.factors]
        search_f = self.features_f(
            np.stack([crop(image, self.centre, window) for window in windows])
        )
        response_f = (search_f * self.model.conj()).sum(1) * self.alpha[0]
        response = torch.fft.irfft2(response_f, s=(SIZE, SIZE)).cpu().numpy()
        best = int((response.reshape(SCALES, -1).max(1) * self.penalties).argmax())
        row, column = np.unravel_index(response[best].argmax(), (SIZE, SIZE))
        row, column = row - SIZE * (row > SIZE / 2), column - SIZE * (column > SIZE / 2)
        self.centre = self.centre + np.array([column, row]) * windows[best] / SIZE
        self.size = np.minimum(np.maximum(windows[best] / self.grow, self.smallest), self.largest)
        self.learn(image, self.settings["learning_rate"])
        return np.r_[self.centre - self.size / 2, self.size]
