"""What of the packaging needs code; all else is in pyproject.toml.

`kernels/` and `train/` stand at the top of the repository and install as `dcfnet_np.kernels` and
`dcfnet_np.train`: `package_dir` maps them, in wheels, in source distributions and in editable
installs.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["dcfnet_np", "dcfnet_np.*"]),
        "dcfnet_np.kernels",
        "dcfnet_np.kernels.ladder",
        "dcfnet_np.train",
    ],
    package_dir={
        "dcfnet_np.kernels": "kernels",
        "dcfnet_np.kernels.ladder": "kernels/ladder",
        "dcfnet_np.train": "train",
    },
)
