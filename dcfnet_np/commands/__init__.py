"""The commands of `dcfnet`, a module each: `add_arguments(parser)` and `run(args)`, which returns
the exit code.

`cli.main` imports the one that is asked for.
"""
