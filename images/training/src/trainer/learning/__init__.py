"""The network, its training loop, calibration and hyperparameter search."""
