"""DCFNet without a deep-learning framework: the public names, loaded when first used (PEP 562)."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "MultiTracker",
    "OnlineFilter",
    "TrackResult",
    "Tracker",
    "__version__",
    "check_gradients",
    "get_preset",
    "load_weights",
    "open_source",
]

# public name -> (module, name there)
_WHERE = {
    "PRESETS": ("dcfnet_np.presets", "PRESETS"),
    "MultiTracker": ("dcfnet_np.tracker", "MultiTracker"),
    "OnlineFilter": ("dcfnet_np.filter", "OnlineFilter"),
    "TrackResult": ("dcfnet_np.tracker", "TrackResult"),
    "Tracker": ("dcfnet_np.tracker", "Tracker"),
    "check_gradients": ("dcfnet_np.gradcheck", "check"),
    "get_preset": ("dcfnet_np.presets", "get_preset"),
    "load_weights": ("dcfnet_np.weights", "load_weights"),
    "open_source": ("dcfnet_np.vision.sources", "open_source"),
}

if TYPE_CHECKING:  # the same names for type checkers and editors
    from dcfnet_np.filter import OnlineFilter
    from dcfnet_np.gradcheck import check as check_gradients
    from dcfnet_np.presets import PRESETS, get_preset
    from dcfnet_np.tracker import MultiTracker, Tracker, TrackResult
    from dcfnet_np.vision.sources import open_source
    from dcfnet_np.weights import load_weights


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'dcfnet_np' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
