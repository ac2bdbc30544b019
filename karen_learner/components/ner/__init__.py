"""Entity recognition: `karen_ner`, `karen_learner.SparseChain.v1`."""
