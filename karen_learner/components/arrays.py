"""Array types of the components, and named arrays as bytes.

The format has no pickle: `unpack` refuses unknown array types.
"""

from typing import Any

import numpy as np
import srsly
from numpy.typing import NDArray

AnyArray = NDArray[Any]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Places = NDArray[np.int32]
"""Positions in another array."""
Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Arrays = dict[str, AnyArray]

_DTYPES = {
    "f4": np.float32,
    "f8": np.float64,
    "i1": np.int8,
    "u1": np.uint8,
    "u4": np.uint32,
    "i8": np.int64,
}
_DENSE_SHARE = 0.9
"""Above this share of non-zero values, a mask costs more bytes than it saves."""


def pack(arrays: Arrays) -> bytes:
    """The arrays as bytes. Zeros take one bit each."""
    packed: bytes = srsly.msgpack_dumps({name: _encode(array) for name, array in arrays.items()})
    return packed


def unpack(data: bytes) -> Arrays:
    """The exact arrays that `pack` wrote. Raises ValueError for other bytes."""
    try:
        named = srsly.msgpack_loads(data)
        return {str(name): _decode(record) for name, record in named.items()}
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"the data are not the weights of a sparse model, or they are damaged: {error}"
        ) from error


def require_names(arrays: Arrays, *names: str) -> None:
    """Raises ValueError if an array is missing."""
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"the weights lack {', '.join(missing)}: the file is damaged or of another model")


def require_shape(array: AnyArray, shape: tuple[int, ...], name: str) -> None:
    """Raises ValueError if the array has another shape."""
    if array.shape != shape:
        raise ValueError(f"the {name} have the shape {array.shape}, not {shape}: the file is damaged")


def _encode(array: AnyArray) -> dict[str, Any]:
    flat = np.ascontiguousarray(array).reshape(-1)
    nonzero = flat != 0
    sparse = np.count_nonzero(nonzero) < _DENSE_SHARE * len(flat)
    return {
        "kind": array.dtype.str[1:],
        "shape": list(array.shape),
        "mask": np.packbits(nonzero).tobytes() if sparse else b"",
        "values": (flat.compress(nonzero) if sparse else flat).tobytes(),  # faster than a boolean index
    }


def _decode(record: dict[str, Any]) -> AnyArray:
    dtype, shape = _DTYPES[record["kind"]], tuple(int(size) for size in record["shape"])
    values = np.frombuffer(record["values"], dtype=dtype)
    if not record["mask"]:
        return values.reshape(shape).copy()
    size = int(np.prod(shape))
    mask = np.unpackbits(np.frombuffer(record["mask"], dtype=np.uint8), count=size).view(bool)
    flat = np.zeros(size, dtype=dtype)
    flat[np.flatnonzero(mask)] = values
    return flat.reshape(shape)
