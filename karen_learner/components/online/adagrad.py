"""Weights in rows of features and columns of labels, moved by AdaGrad where a feature is present.

Duchi, Hazan, Singer: Adaptive Subgradient Methods for Online Learning and Stochastic Optimization,
JMLR 12 (2011). Each weight has its own learn rate, which falls with the squared gradients it has seen.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

COLUMN_STEP = 8


class SparseRows:
    """Float32 weights of shape (rows, columns) and the sum of squared gradients of each.

    Room for rows and columns is made ahead, so that adding one at a time stays cheap. `initial_square`
    is what every sum of squares begins with: the larger, the gentler the first steps.
    """

    def __init__(self, rows: int, columns: int, *, initial_square: float) -> None:
        self._initial_square = np.float32(initial_square)
        self._shape = (rows, columns)
        self._weights = np.zeros((_roomy_rows(rows), _roomy_columns(columns)), dtype=np.float32)
        self._squares = np.zeros(self._weights.shape, dtype=np.float32)  # zeros_like would write them all

    @property
    def shape(self) -> tuple[int, int]:
        return self._shape

    @property
    def weights(self) -> Floats:
        """The weights; a view, not a copy."""
        return self._weights[: self._shape[0], : self._shape[1]]

    @property
    def squares(self) -> Floats:
        """The sums of squared gradients, without what they began with; a view."""
        return self._squares[: self._shape[0], : self._shape[1]]

    @property
    def nbytes(self) -> int:
        """Those in use, without what is kept ready for more."""
        return self.weights.nbytes + self.squares.nbytes

    def grow(self, rows: int, columns: int) -> None:
        """Make it at least so large. New weights are zero."""
        rows, columns = max(rows, self._shape[0]), max(columns, self._shape[1])
        room = self._weights.shape
        if rows > room[0] or columns > room[1]:
            wider = columns > room[1]
            size = (
                _roomy_rows(rows) if rows > room[0] else room[0],
                _roomy_columns(columns) if wider else room[1],
            )
            self._weights = _moved(self._weights, size, self._shape)
            self._squares = _moved(self._squares, size, self._shape)
        self._shape = (rows, columns)

    def take(self, rows: Ints) -> Floats:
        """The weights of these rows; a copy of shape (rows, columns)."""
        return self._weights.take(rows, axis=0)[:, : self._shape[1]]

    def step(self, rows: Ints, columns: Ints, gradient: Floats, *, learn_rate: float) -> None:
        """Move the weights of these rows and columns (each at most once) against their gradient.

        Where the gradient, shape (rows, columns), is 0, nothing is read or written: most labels of a text are
        right with a margin. Raises ValueError for a gradient of another shape.
        """
        if gradient.shape != (len(rows), len(columns)):
            raise ValueError(f"a gradient of shape {gradient.shape} for {len(rows)} x {len(columns)} weights")
        places, slopes = self._steep(rows, columns, gradient)
        weights, squares = self._weights.reshape(-1), self._squares.reshape(-1)
        sums = squares.take(places) + slopes * slopes
        squares[places] = sums
        moves = np.float32(learn_rate) * slopes / np.sqrt(sums + self._initial_square)
        weights[places] = weights.take(places) - moves

    def _steep(self, rows: Ints, columns: Ints, gradient: Floats) -> tuple[Ints, Floats]:
        """Where in the flat table the gradient is not 0, and what it is there."""
        cells = np.flatnonzero(gradient != 0.0)
        lines = cells // max(1, len(columns))
        starts = rows * self._weights.shape[1]
        places = starts.take(lines) + columns.take(cells - lines * len(columns))
        return places, gradient.reshape(-1).take(cells)

    def keep(self, rows: Ints) -> None:
        """Drop all rows but row 0 and these, in this order."""
        kept = np.concatenate([np.zeros(1, dtype=np.int64), rows])
        self._weights, self._squares = self._weights[kept], self._squares[kept]
        self._shape = (len(kept), self._shape[1])

    @classmethod
    def from_arrays(cls, weights: Floats, squares: Floats, *, initial_square: float) -> "SparseRows":
        """The table with these weights and squares. Raises ValueError if their shapes differ."""
        if weights.ndim != 2 or weights.shape != squares.shape:
            raise ValueError(f"weights of shape {weights.shape} with squares of shape {squares.shape}")
        table = cls(weights.shape[0], weights.shape[1], initial_square=initial_square)
        table.weights[:] = weights
        table.squares[:] = squares
        return table

    @classmethod
    def fresh(cls, weights: Floats, *, initial_square: float) -> "SparseRows":
        """The table with these weights, as if it had seen no gradient yet."""
        return cls.from_arrays(weights, np.zeros_like(weights), initial_square=initial_square)


def _roomy_rows(rows: int) -> int:
    """As many rows to spare again, which cost no memory before they are written to."""
    return 2 * rows


def _roomy_columns(columns: int) -> int:
    """Columns with an eighth to spare, as a multiple of COLUMN_STEP."""
    return -(-(columns + columns // 8) // COLUMN_STEP) * COLUMN_STEP


def _moved(array: Floats, room: tuple[int, int], used: tuple[int, int]) -> Floats:
    larger = np.zeros(room, dtype=np.float32)
    larger[: used[0], : used[1]] = array[: used[0], : used[1]]
    return larger
