"""What the rest stands on and what has nothing to do with tracking: files, threads, processes, the
machine.
"""
