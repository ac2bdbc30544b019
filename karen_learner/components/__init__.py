"""spaCy pipes that learn on the fly. They work in any pipeline, without the rest of the package."""
