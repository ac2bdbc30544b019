"""spaCy pipes with online training. They work in any pipeline, without the rest of the package."""
