"""Margins of a text categorizer: their columns by label, the pool of several models, and files.

Models of different folds can have different label sets and label orders. `LabelledMargins.aligned` gives the
columns in the order of one model.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from karen_learner.components.arrays import AnyArray, Floats, Mask

UNKNOWN_MARGIN = -np.inf
"""Margin of a label that the model lacks: its probability is 0, and it is never the largest margin."""
UNKNOWN_SIMILARITY = -1.0
"""Similarity to the centroid of a label that the model lacks: the smallest cosine."""


@dataclass(frozen=True)
class Margins:
    """Output of the classifier for a batch.

    `margins` (texts, labels): positive for predicted labels. `ngram_coverage` (texts,): share of trained
    character n-grams (of words, if there are no n-grams), from 0 to 1. `centroid_similarity` (texts, labels):
    cosine of the text vector and the centroid of each label; None without vectors.
    """

    margins: Floats
    ngram_coverage: Floats
    centroid_similarity: Floats | None = None

    def rows(self, which: Mask) -> "Margins":
        """The texts of a mask of shape (texts,)."""
        similarity = self.centroid_similarity
        return Margins(
            self.margins[which],
            self.ngram_coverage[which],
            None if similarity is None else similarity[which],
        )


@dataclass(frozen=True)
class LabelledMargins:
    """Margins before calibration. `labels` are the names of their columns."""

    labels: tuple[str, ...]
    values: Margins

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.values.margins)

    def aligned(self, labels: Sequence[str]) -> Margins:
        """The margins with one column for each of `labels`, in this order.

        A missing label has the margin UNKNOWN_MARGIN and the similarity UNKNOWN_SIMILARITY. Columns of other
        labels are dropped.
        """
        position = {label: column for column, label in enumerate(self.labels)}
        columns = [position.get(label) for label in labels]
        similarity = self.values.centroid_similarity
        return Margins(
            _columns(self.values.margins, columns, missing=UNKNOWN_MARGIN),
            self.values.ngram_coverage,
            None if similarity is None else _columns(similarity, columns, missing=UNKNOWN_SIMILARITY),
        )

    def to_file(self, path: Path) -> None:
        """Write an `.npz` file without pickled objects. The file has labels and numbers, but no texts."""
        arrays: dict[str, AnyArray] = {
            "labels": np.array(self.labels, dtype=np.str_),
            "margins": self.values.margins,
            "ngram_coverage": self.values.ngram_coverage,
        }
        if self.values.centroid_similarity is not None:
            arrays["centroid_similarity"] = self.values.centroid_similarity
        with path.open("wb") as file:  # np.savez appends a suffix to a path
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The margins of `to_file`. Raises FileNotFoundError, and ValueError for a damaged file."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                found = cls(
                    tuple(str(label) for label in arrays["labels"]),
                    Margins(
                        arrays["margins"],
                        arrays["ngram_coverage"],
                        arrays.get("centroid_similarity"),
                    ),
                )
        except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} has no margins, or is damaged: {error}") from error
        _require_shapes(found, path)
        return found


def pool_margins(parts: Sequence[LabelledMargins]) -> LabelledMargins:
    """The texts of all parts, one part after the other, with the sorted union of their labels.

    Raises ValueError without a part, or if only some parts have centroid similarities.
    """
    if not parts:
        raise ValueError("there are no margins to pool")
    labels = tuple(sorted({label for part in parts for label in part.labels}))
    aligned = [part.aligned(labels) for part in parts]
    similarities = [one.centroid_similarity for one in aligned]
    known = [similarity for similarity in similarities if similarity is not None]
    if known and len(known) < len(similarities):
        raise ValueError("margins of models with and without sentence vectors cannot be pooled")
    return LabelledMargins(
        labels,
        Margins(
            np.concatenate([one.margins for one in aligned]),
            np.concatenate([one.ngram_coverage for one in aligned]),
            np.concatenate(known) if known else None,
        ),
    )


def _columns(values: Floats, columns: Sequence[int | None], *, missing: float) -> Floats:
    result = np.full((len(values), len(columns)), missing, dtype=np.float32)
    for target, source in enumerate(columns):
        if source is not None:
            result[:, target] = values[:, source]
    return result


def _require_shapes(found: LabelledMargins, path: Path) -> None:
    values, similarity = found.values, found.values.centroid_similarity
    shape = (len(values.ngram_coverage), len(found.labels))
    if values.margins.shape != shape or (similarity is not None and similarity.shape != shape):
        raise ValueError(f"the margins in {path} do not have the shape {shape} (texts, labels)")
