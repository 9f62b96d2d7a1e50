"""Random-weight exports of well-known architectures, for parity and speed against ONNX Runtime: see make_zoo.py."""
