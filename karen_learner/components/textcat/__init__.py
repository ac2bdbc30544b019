"""Text categorization: `karen_textcat`, `karen_textcat_multilabel`, `karen_learner.SparseNgrams.v2`."""
