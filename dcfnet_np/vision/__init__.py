"""Images and boxes: crops, windows, sources of frames, drawing."""
