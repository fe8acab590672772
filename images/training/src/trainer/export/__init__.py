"""Export what serving needs, the ONNX graph and the model contract, and check contracts for compatibility."""
