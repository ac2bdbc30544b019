"""The packages of the extra `encoder`, imported here alone and only when an encoder is opened."""

from pathlib import Path
from typing import Any

from karen_learner.errors import EncoderError, EncoderNotInstalled


def open_tokenizer(path: Path) -> Any:
    """The tokenizer of a `tokenizer.json`. Raises EncoderError if it is none."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise _not_installed(error) from error
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the class that tokenizers raises for whatever is wrong with a file
        raise EncoderError(
            f"{path} is not a tokenizer that the package `tokenizers` understands ({error}). Export the "
            "model again, with its fast tokenizer"
        ) from error


def open_session(path: Path) -> Any:
    """An inference session on one thread. Raises EncoderError if the file is no ONNX model."""
    try:
        import onnxruntime
    except ImportError as error:
        raise _not_installed(error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what matters comes as an exception
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        raise EncoderError(
            f"{path} is not an ONNX model that this onnxruntime can run ({error}). Export the model again"
        ) from error


def _not_installed(error: ImportError) -> EncoderNotInstalled:
    return EncoderNotInstalled(
        f"an encoder needs packages that are not installed ({error}). "
        "Install them with: pip install 'karen-learner[encoder]'"
    )
