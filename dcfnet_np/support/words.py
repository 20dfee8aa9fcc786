"""Words of messages."""


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1 frame", "2 frames", "0 boxes"."""
    ending = "es" if noun.endswith(("s", "x")) else "s"
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{ending}"
