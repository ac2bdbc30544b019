"""Array types of the components, eight-bit rows, and named arrays as bytes.

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
Bytes8 = NDArray[np.int8]
Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Arrays = dict[str, AnyArray]

_KINDS = frozenset({"f4", "f8", "i1", "u1", "u4", "i8"})
QUANTIZED_MAX = 127
ROWS_PER_PART = 512
"""Rows that `quantize` converts at a time. A part must fit into the processor's cache."""
_LENGTH_BYTES = 8
_DENSE_SHARE = 0.9
"""Above this share of non-zero values, a mask costs more bytes than it saves."""


def quantize(rows: Floats) -> tuple[Bytes8, Floats]:
    """Eight-bit weights with one scale for each row: `rows ~ quantized * scales[:, None]`.

    The error is at most 1/254 of the largest weight of the row.
    """
    quantized = np.empty(rows.shape, dtype=np.int8)
    scales = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), ROWS_PER_PART):
        part = slice(start, start + ROWS_PER_PART)
        largest = np.abs(rows[part]).max(axis=1, initial=0.0)
        scales[part] = largest / np.float32(QUANTIZED_MAX)
        safe = np.where(scales[part] > 0, scales[part], np.float32(1.0))
        quantized[part] = np.rint(rows[part] / safe[:, None])
    return quantized, scales


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


def with_length(data: bytes) -> bytes:
    """The data after its length in eight bytes."""
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


def split_length(data: bytes) -> tuple[bytes, bytes]:
    """The data of `with_length`, and the bytes after it."""
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    return data[_LENGTH_BYTES:end], data[end:]


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
    kind, shape = record["kind"], tuple(int(size) for size in record["shape"])
    if kind not in _KINDS:
        raise ValueError(f"an array has the unknown type {kind!r}")
    values = np.frombuffer(record["values"], dtype=kind)
    if not record["mask"]:
        return values.reshape(shape).copy()
    size = int(np.prod(shape))
    mask = np.unpackbits(np.frombuffer(record["mask"], dtype=np.uint8), count=size).view(bool)
    flat = np.zeros(size, dtype=kind)
    flat[np.flatnonzero(mask)] = values
    return flat.reshape(shape)
