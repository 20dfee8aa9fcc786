"""Errors with a meaning for the command line: see `cli.main`."""


class DeviceError(RuntimeError):
    """A GPU was asked for and cannot be used; the message says why and what to do."""


class Failed(Exception):
    """Something went wrong after the arguments were found to be good: exit code 1."""
