"""The tracker and the training step on PyTorch, to agree with and to beat: they share no line with
the library.
"""
