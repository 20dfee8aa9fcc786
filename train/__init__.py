"""Training: sequences -> crops (`prepare`), `pairs`, the `loop`, `sgd` and checkpoints."""
