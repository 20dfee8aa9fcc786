"""The definition of a frame of tracking: features, response, move, model."""
