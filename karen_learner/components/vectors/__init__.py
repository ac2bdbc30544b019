"""Sentence and token vectors from static tables or a local ONNX encoder."""
