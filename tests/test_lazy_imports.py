import subprocess
import sys

from karen_learner.lazy_imports import import_spacy


def test_the_learner_imports_no_command_line_and_no_database_before_their_first_use() -> None:
    program = """
import sys
from karen_learner import create_autonomous_learner
import spacy
assert not {"spacy.cli", "sqlalchemy"} & set(sys.modules), "not yet"
assert spacy.registry.has("architectures", "karen_learner.SparseChain.v1"), "an entry point"
assert not spacy.registry.has("architectures", "karen_learner.SparseChain.v0"), "no entry point"
assert not {name for name in sys.modules if name.startswith("spacy.cli")}, "the stand-in is gone"
assert not hasattr(spacy, "never"), "other attributes are missing as before"
assert spacy.blank("en")("one two").text == "one two"
assert spacy.info(silent=True)["spacy_version"] == spacy.__version__
assert spacy.cli.download is sys.modules["spacy.cli"].download
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_spacy_is_imported_once() -> None:
    import spacy

    info = spacy.info
    assert import_spacy() is spacy
    assert spacy.info is info
