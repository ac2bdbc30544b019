"""Weight tables: buckets, AdaGrad against its definition, growth, quantization."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from karen_learner.components.arrays import ROWS_PER_PART, pack, quantize, unpack
from karen_learner.components.online.feature_rows import NO_ROW, AdaGradTable, BucketRows


def test_a_bucket_gets_one_row_and_keeps_it() -> None:
    table = BucketRows(8)
    buckets = np.array([7, 3, 7, 200])
    assert table.rows_of(buckets).tolist() == [NO_ROW] * 4
    assert table.allocate(buckets, limit=100) == 3
    assert table.allocate(buckets, limit=100) == 0
    assert table.rows_of(buckets).tolist() == [2, 1, 2, 3]
    assert table.buckets.tolist() == [3, 7, 200]
    assert len(table) == 4


def test_no_more_rows_than_the_limit() -> None:
    table = BucketRows(8)
    assert table.allocate(np.arange(10), limit=5) == 4
    assert len(table) == 5
    assert table.rows_of(np.array([4])).tolist() == [NO_ROW]


def test_rows_are_numbered_in_the_order_of_their_buckets() -> None:
    table = BucketRows(8, np.array([20, 40]))
    assert table.rows_of(np.array([10, 20, 30, 40])).tolist() == [NO_ROW, 1, NO_ROW, 2]
    assert table.allocate(np.array([30, 40]), limit=100) == 1
    copy = BucketRows(8, table.buckets)
    assert copy.rows_of(np.array([10, 20, 30, 40])).tolist() == [NO_ROW, 1, 3, 2]


def test_buckets_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2\*\*8"):
        BucketRows(8, np.array([256]))


def test_steps_are_those_of_adagrad() -> None:
    """Against the definition, weight by weight, over several steps on changing rows and columns."""
    rng = np.random.default_rng(0)
    table = AdaGradTable(np.zeros((6, 3), dtype="f4"), initial_square=0.1)
    weights, squares = np.zeros((6, 3)), np.full((6, 3), 0.1)
    for _ in range(20):
        rows, columns = (np.sort(rng.choice(size, size=2, replace=False)) for size in (6, 3))
        gradient = rng.normal(size=(2, 2)).astype(np.float32)
        gradient[rng.random((2, 2)) < 0.3] = 0.0
        table.step(rows, columns, gradient, learn_rate=0.5)
        moved = np.ix_(rows, columns)
        squares[moved] += gradient.astype(float) ** 2
        weights[moved] -= 0.5 * gradient / np.sqrt(squares[moved])
    np.testing.assert_allclose(table.weights, weights, rtol=1e-5)
    np.testing.assert_allclose(table.squares, squares - 0.1, rtol=1e-5, atol=1e-6)


def test_a_gradient_of_another_shape_is_refused() -> None:
    table = AdaGradTable(np.zeros((3, 3), dtype="f4"), initial_square=0.1)
    with pytest.raises(ValueError, match=r"shape \(2, 2\) for 1 x 3"):
        table.step(np.array([1]), np.arange(3), np.ones((2, 2), dtype=np.float32), learn_rate=1.0)


def test_growth_keeps_the_weights() -> None:
    table = AdaGradTable(np.zeros((2, 2), dtype="f4"), initial_square=0.1)
    table.step(np.array([1]), np.arange(2), np.ones((1, 2), dtype=np.float32), learn_rate=1.0)
    before = table.weights.copy()
    for size in range(3, 40):
        table.grow(size, size)
        assert table.shape == (size, size)
        np.testing.assert_array_equal(table.weights[:2, :2], before)
        assert np.count_nonzero(table.weights) == 2


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2), elements=st.floats(-1e3, 1e3, width=32)))
def test_quantization_errors_are_at_most_half_a_step(rows: np.ndarray) -> None:
    quantized, scales = quantize(rows)
    error = np.abs(quantized * scales[:, None] - rows)
    assert (error <= np.abs(rows).max(axis=1, keepdims=True) / 253 + 1e-30).all()


@pytest.mark.parametrize(
    "size", [0, 1, ROWS_PER_PART - 1, ROWS_PER_PART, ROWS_PER_PART + 1, 2 * ROWS_PER_PART + 1]
)
def test_quantization_does_not_depend_on_parts(size: int) -> None:
    rows = np.random.default_rng(0).normal(size=(size, 7)).astype(np.float32)
    rows[size // 2 : size // 2 + 1] = 0.0
    quantized, scales = quantize(rows)
    expected = np.abs(rows).max(axis=1, initial=0.0) / np.float32(127)
    np.testing.assert_array_equal(scales, expected)
    steps = np.where(expected > 0, expected, np.float32(1.0))[:, None]
    np.testing.assert_array_equal(quantized, np.rint(rows / steps))
    assert quantized.dtype == np.int8


@given(
    arrays(
        st.sampled_from([np.float32, np.int8, np.uint32]),
        array_shapes(min_dims=1, max_dims=2, min_side=0),
        elements=st.integers(0, 3),
    )
)
def test_unpacked_arrays_are_equal(array: np.ndarray) -> None:
    back = unpack(pack({"a": array, "b": array[:0]}))
    assert back["a"].dtype == array.dtype
    np.testing.assert_array_equal(back["a"], array)
    assert back["b"].shape == array[:0].shape


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    if data == b"\x80":  # an empty map is a valid message
        return
    with pytest.raises(ValueError, match="weights"):
        unpack(data)
