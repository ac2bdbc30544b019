"""Peers of scikit-learn, trained from scratch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from karen_learner.records import LabelledText


def make_linear_svc(c: float = 1.0) -> Pipeline:
    """TF-IDF of words (1-2) and of characters within words (2-5), with a linear SVM. `c`: inverse penalty."""
    return make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
        ),
        LinearSVC(C=c),
    )


def make_logistic_regression(c: float, *, encode: Callable[[Sequence[str]], NDArray[Any]]) -> Pipeline:
    """A logistic regression on the vectors of `encode`. `c`: inverse penalty."""
    return make_pipeline(FunctionTransformer(encode), LogisticRegression(C=c, max_iter=2000))


def linear_svc(train: Sequence[LabelledText], test: Sequence[LabelledText]) -> float:
    """Accuracy of intents on the test texts."""
    model = make_linear_svc().fit([one.text for one in train], [one.intent for one in train])
    predicted = model.predict([one.text for one in test])
    right = sum(label == one.intent for label, one in zip(predicted, test, strict=True))
    return right / len(test)
