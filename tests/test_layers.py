"""A module imports only from its own layer or from layers below it; inside functions too.

The list below says which: a room a line, the lowest first.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {
    "dcfnet_np": ROOT / "dcfnet_np",
    "dcfnet_np.kernels": ROOT / "kernels",
    "dcfnet_np.train": ROOT / "train",
}

LAYERS = [
    ["backend", "support"],
    ["kernels"],
    ["ops"],
    ["network", "vision", "datasets"],
    ["filter", "presets", "weights"],
    ["tracking"],
    ["fast"],
    ["tracker"],
    ["evaluation", "train", "gradcheck", "kernels.ladder"],
    ["stress", "adapters", "trace", "follow", "bench", "serve", "explain"],
    ["commands"],
    ["cli", "__main__"],
    ["__init__"],  # dcfnet_np itself: the public names, imported by nobody inside
]
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}


def library_files():
    """{module name: path} of every module in dcfnet_np/, kernels/ and train/."""
    files = {}
    for package, folder in ROOMS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            if parts[-1] == "__init__":
                parts.pop()
            files[".".join(parts)] = path
    return files


def imported_names(source, module, is_package):
    """(line, dotted name) of everything that a module imports, relative imports made absolute.

    `from a import b` gives "a.b", whether b is a module or a name in it.
    `importlib.import_module("a")` and `__import__("a")` with a literal name count as imports.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                package = package[: len(package) - (node.level - 1)]
                start = ".".join([*package, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{start}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            if function in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append((node.lineno, node.args[0].value))
    return found


def room_of(name):
    """The room of a dotted name in dcfnet_np: "dcfnet_np.ops.conv.x" lies in "ops"."""
    parts = name.split(".")
    if parts[1:3] == ["kernels", "ladder"]:  # a program, which the library never imports
        return "kernels.ladder"
    return parts[1] if len(parts) > 1 else "__init__"


def faults(source, module, is_package=False):
    """One line for each import in `source` that points against the layers or at a forbidden
    package.
    """
    room = room_of(module)
    if room not in LAYER:
        return [f"{module}: give room {room!r} a layer in tests/test_layers.py"]
    lines = []
    for lineno, name in imported_names(source, module, is_package):
        top = name.split(".")[0]
        if top in ("cupy", "cupyx") and room != "backend":
            lines.append(f"{module}:{lineno} imports {name}: only backend.py imports cupy")
        elif top in ("torch", "torchvision"):
            lines.append(f"{module}:{lineno} imports {name}: the library needs no framework")
        elif top in ("kernels", "train"):
            lines.append(f"{module}:{lineno} imports {name}: it installs as dcfnet_np.{name}")
        elif top == "dcfnet_np" and name != "dcfnet_np.__version__":
            target = room_of(name)
            if LAYER.get(target, LAYER["__init__"]) > LAYER[room]:
                lines.append(f"{module}:{lineno} imports {name}: {target} lies above {room}")
    return lines


def test_imports_point_down():
    found = []
    for module, path in library_files().items():
        found += faults(
            path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py"
        )
    assert not found, "\n" + "\n".join(found)


def test_every_file_is_seen():
    files = library_files()
    assert {
        "dcfnet_np",
        "dcfnet_np.backend",
        "dcfnet_np.kernels",
        "dcfnet_np.ops",
        "dcfnet_np.train",
    } <= set(files)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dcfnet_np.backend", "from dcfnet_np.ops import conv"),
        ("dcfnet_np.ops.conv", "import dcfnet_np.network"),
        ("dcfnet_np.ops.conv", "from dcfnet_np import network"),
        ("dcfnet_np.ops.conv", "from ..vision.crop import crop_patches"),
        ("dcfnet_np.ops.conv", "from .. import tracker"),
        ("dcfnet_np.ops.conv", "def f():\n    from dcfnet_np.tracker import Tracker"),
        ("dcfnet_np.kernels", "from dcfnet_np.ops import conv"),
        ("dcfnet_np.fast.strip", "from ..tracker import Tracker"),
        ("dcfnet_np.tracking.step", "from ..fast.features import FastFeatures"),
        ("dcfnet_np.tracker", "if True:\n    from dcfnet_np.train.optimisers import sgd_step"),
        ("dcfnet_np.tracker", "import importlib\nimportlib.import_module('dcfnet_np.cli')"),
        ("dcfnet_np.filter", "from dcfnet_np import Tracker"),
        ("dcfnet_np.filter", "import dcfnet_np"),
        ("dcfnet_np.train.loop", "from dcfnet_np import cli"),
        ("dcfnet_np.train.loop", "from train import optimisers"),
        ("dcfnet_np.filter", "import cupy"),
        ("dcfnet_np.kernels", "import cupy.cuda as c"),
        ("dcfnet_np.kernels", "__import__('cupy')"),
        ("dcfnet_np.cli", "def f():\n    import torch.nn"),
        ("dcfnet_np.surprise", "import math"),
    ],
)
def test_a_wrong_import_is_seen(module, source):
    assert len(faults(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dcfnet_np.ops.conv", "from dcfnet_np.ops.relu import relu_forward"),
        ("dcfnet_np.ops.conv", "from . import relu"),
        ("dcfnet_np.ops.conv", "from ..backend import array_module"),
        ("dcfnet_np.backend", "import importlib\nimportlib.import_module('cupy')"),
        ("dcfnet_np.network", "from dcfnet_np.vision import crop"),
        ("dcfnet_np.weights", "from dcfnet_np import __version__"),
        ("dcfnet_np.weights", "from dcfnet_np import network"),
        ("dcfnet_np.train.loop", "from . import optimisers\nfrom ..gradcheck import check"),
        ("dcfnet_np.cli", "from dcfnet_np.train import loop"),
    ],
)
def test_a_right_import_passes(module, source):
    assert faults(source, module) == []


def test_relative_imports_of_a_package_start_at_itself():
    assert imported_names("from . import conv", "dcfnet_np.ops", is_package=True) == [
        (1, "dcfnet_np.ops.conv")
    ]
    assert imported_names("from . import conv", "dcfnet_np.ops.x", is_package=False) == [
        (1, "dcfnet_np.ops.conv")
    ]
