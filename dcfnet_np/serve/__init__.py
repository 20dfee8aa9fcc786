"""`dcfnet serve`: a page in the browser to open a video or camera, draw a box and watch the
tracker.
"""
