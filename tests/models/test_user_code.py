"""Code of users: imports that settings name, and registered functions of the program for its worker."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import catalogue
import pytest
import spacy
from spacy.language import Language

from karen_learner.errors import ModelError, SettingsError
from karen_learner.models.loading import load_pipeline
from karen_learner.models.user_code import FACTORIES, RegisteredCode, import_code, register, registered_code

MASK = """
from spacy.language import Language

@Language.component("mask_numbers")
def mask_numbers(doc):
    return doc
"""


COMPONENTS = ("mask_numbers", "mask_names", "mark")
MODULES = ("shop_parts", "shop_components", "more parts", "leaves")


def forget(name: str) -> None:
    """Remove a component from the registry, as in a new process."""
    if catalogue.REGISTRY.pop((*FACTORIES, name), None):
        Language._factory_meta.pop(name)


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Each test ends without the modules and components of this file."""
    yield
    for name in COMPONENTS:
        forget(name)
    for name in MODULES:
        sys.modules.pop(name, None)


def run_as_main(source: str, **names: Any) -> None:
    """Run code as the main program runs it."""
    exec(source, {"__name__": "__main__", **names})


def test_modules_and_files_are_imported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_parts.py").write_text(MASK + "print('imported')")
    file = tmp_path / "more parts.py"
    file.write_text(
        MASK.replace("mask_numbers", "mask_names") + "with open('count', 'a') as file: file.write('x')"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import_code(["shop_parts", str(file)])
    import_code(["shop_parts", "more parts.py"])
    nlp = spacy.blank("xx")
    nlp.add_pipe("mask_numbers")
    nlp.add_pipe("mask_names")
    assert Path("count").read_text() == "x"


@pytest.mark.parametrize("name", ["no_such_module", "no/such/file.py", "broken.py", "leaves.py", "", "."])
def test_code_that_cannot_be_imported_is_an_error_that_names_the_setting(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("1 / 0")
    Path("leaves.py").write_text("raise SystemExit(3)")
    with pytest.raises(SettingsError, match=r"training\.imports: cannot import"):
        import_code([name])
    assert "broken" not in sys.modules


def test_a_missing_component_names_the_setting(tmp_path: Path) -> None:
    run_as_main(MASK)
    nlp = spacy.blank("xx")
    nlp.add_pipe("mask_numbers")
    nlp.to_disk(tmp_path / "model")
    forget("mask_numbers")
    with pytest.raises(ModelError, match=r"'mask_numbers'.*name its module or file in training\.imports"):
        load_pipeline(tmp_path / "model")


def test_functions_of_the_main_program_are_registered_in_the_other_process(tmp_path: Path) -> None:
    run_as_main(
        MASK
        + """
@Language.factory("mark", default_config={"mark": "!"}, assigns=["doc.user_data"])
class Mark:
    def __init__(self, nlp, name, mark):
        self.mark = mark

    def __call__(self, doc):
        doc.user_data["mark"] = self.mark
        return doc
"""
    )
    nlp = spacy.blank("xx")
    nlp.add_pipe("mask_numbers")
    nlp.add_pipe("mark", config={"mark": "?"})
    nlp.to_disk(tmp_path / "model")
    code = registered_code()
    assert len(code.functions) == 2
    forget("mask_numbers")
    forget("mark")
    register(type(code).model_validate_json(code.model_dump_json()))
    loaded = load_pipeline(tmp_path / "model")
    assert loaded("hello").user_data["mark"] == "?"
    assert loaded.get_pipe_meta("mark").assigns == ["doc.user_data"]


def test_a_function_that_cannot_be_pickled_is_left_out() -> None:
    run_as_main(MASK.replace("return doc", "return lock and doc"), lock=sys._getframe())
    assert registered_code().functions == {}


def test_modules_of_the_program_are_named_and_those_of_entry_points_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shop_components.py").write_text(MASK)
    before = registered_code()
    import_code(["shop_components"])
    found = registered_code()
    assert set(found.modules) - set(before.modules) == {"shop_components"}
    assert not any(module.startswith(("spacy", "thinc", "karen_learner")) for module in found.modules)
    (tmp_path / "shop_components.py").unlink()
    del sys.modules["shop_components"]
    register(found)  # a failure is logged


def test_a_function_that_cannot_be_unpickled_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    run_as_main(MASK)
    code = registered_code()
    forget("mask_numbers")
    damaged = base64.b64encode(b"cno_such_module\nfunction\n.").decode()
    register(RegisteredCode(functions={"a.damaged": damaged, **code.functions}))
    assert Language.has_factory("mask_numbers")
    assert "a.damaged is not registered" in caplog.text
