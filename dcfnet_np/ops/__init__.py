"""The mathematics: in each module the forward stands right above its backward."""
