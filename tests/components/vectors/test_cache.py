"""The cache of vectors: limits, counts, threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from karen_learner.components.vectors.onnx import VectorCache


class Squares:
    """Squares of keys, and a record of the computed keys."""

    def __init__(self, cache: VectorCache) -> None:
        self.cache = cache
        self.computed: list[str] = []

    def __call__(self, *keys: str) -> list[float]:
        def compute(missing: list[int]) -> list[np.ndarray]:
            self.computed += [keys[n] for n in missing]
            return [np.float32([float(keys[n]) ** 2]) for n in missing]

        return [float(array[0]) for array in self.cache.get(keys, compute)]


def test_cached_arrays_are_not_computed_again() -> None:
    squares = Squares(VectorCache(10))
    assert squares("2", "3", "2") == [4.0, 9.0, 4.0]
    assert sorted(squares.computed) == ["2", "3"]
    assert squares("3", "4") == [9.0, 16.0]
    assert sorted(squares.computed) == ["2", "3", "4"]
    assert (squares.cache.hits, squares.cache.misses, len(squares.cache)) == (1, 4, 3)


def test_the_cache_keeps_the_most_recently_used_arrays() -> None:
    squares = Squares(VectorCache(2))
    squares("1")
    squares("2")
    squares("1")
    squares("3")
    assert len(squares.cache) == 2
    squares.computed.clear()
    squares("1", "3")
    assert squares.computed == []
    squares("2")
    assert squares.computed == ["2"]


def test_a_call_can_be_larger_than_the_cache() -> None:
    squares = Squares(VectorCache(2))
    assert squares(*map(str, range(100))) == [float(n * n) for n in range(100)]
    assert len(squares.cache) == 2


def test_a_cache_of_size_zero_stores_nothing() -> None:
    squares = Squares(VectorCache(0))
    assert squares("5") == squares("5") == [25.0]
    assert squares.computed == ["5", "5"]
    assert (squares.cache.hits, squares.cache.misses, len(squares.cache)) == (0, 2, 0)


def test_threads_can_share_the_cache() -> None:
    squares = Squares(VectorCache(7))

    def work(start: int) -> bool:
        keys = [str((start + n) % 20) for n in range(10)]
        return all(squares(*keys) == [float(key) ** 2 for key in keys] for _ in range(20))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(16)))
    assert len(squares.cache) == 7
    assert squares.cache.hits + squares.cache.misses == 16 * 20 * 10
