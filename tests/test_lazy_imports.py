import subprocess
import sys

from karen_learner.lazy_imports import import_spacy


def test_the_command_line_of_spacy_is_imported_at_its_first_use() -> None:
    program = """
import sys
from karen_learner.lazy_imports import import_spacy
spacy = import_spacy()
assert "spacy" in sys.modules and "spacy.cli" not in sys.modules, "not yet"
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
