"""What serving gets: the ONNX graph and the model contract."""
