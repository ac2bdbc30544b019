"""Code of users that pipelines need: components and functions that their modules register with spaCy."""

from __future__ import annotations

import base64
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import FunctionType
from typing import Any

import catalogue
from pydantic import Field
from spacy.language import Language
from srsly import cloudpickle

from karen_learner.errors import SettingsError
from karen_learner.records import Record

logger = logging.getLogger(__name__)

MAIN = "__main__"
FACTORIES = ("spacy", "internal_factories")
"""Namespace of components in spaCy's registry."""
LIBRARIES = frozenset(
    {"spacy", "thinc", "karen_learner", "spacy_legacy", "spacy_loggers", "srsly", "confection", "catalogue"}
)
"""Packages whose functions each process registers by itself."""


class RegisteredCode(Record):
    """Registered functions of this program, for another process.

    `modules` register functions when they are imported. `functions` are those of the main program by name,
    which cannot be imported: each is pickled by value.
    """

    modules: tuple[str, ...] = ()
    functions: Mapping[str, str] = Field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """The names of all modules and functions."""
        return (*self.modules, *sorted(self.functions))


def import_code(names: Iterable[str]) -> None:
    """Import the modules or files of `training.imports`. Blocks. Raises SettingsError."""
    for name in names:
        try:
            _import(name)
        except (Exception, SystemExit) as error:
            raise SettingsError(
                f"training.imports: cannot import {name!r}: {type(error).__name__}: {error}; name a module "
                "on sys.path, or the path of a .py file"
            ) from error


def _import(name: str) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    file = Path(name).resolve(strict=True)
    if file not in _files_of_modules():
        _import_file(file)


def _files_of_modules() -> set[Path]:
    """Files that are imported already, with that of the main program."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return {Path(file).resolve() for file in files if isinstance(file, str) and file.endswith(".py")}


def _import_file(file: Path) -> None:
    name = file.stem if file.stem not in sys.modules else f"{file.stem}_of_training_imports"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def registered_code() -> RegisteredCode:
    """The functions that the code of this program has registered with spaCy and thinc."""
    modules, functions = set[str](), dict[str, str]()
    for key, function in list(catalogue.REGISTRY.items()):
        module = _module_of(function)
        if module == MAIN:
            functions.update((".".join(key), pickled) for pickled in _pickled(key, function))
        elif module.partition(".")[0] not in LIBRARIES and not _is_provided(key, module):
            modules.add(module)
    return RegisteredCode(modules=tuple(sorted(modules)), functions=functions)


def _module_of(function: object) -> str:
    """The module of a registered function. `Language.component` wraps a function in another one."""
    if isinstance(function, FunctionType) and function.__module__ == Language.__module__:
        inner = [cell.cell_contents for cell in function.__closure__ or ()]
        function = next(filter(callable, inner), function)
    return str(getattr(function, "__module__", None) or type(function).__module__)


def _pickled(key: tuple[str, ...], function: Callable[..., Any]) -> Iterator[str]:
    try:
        meta = Language.get_factory_meta(key[-1]) if key[:-1] == FACTORIES else None
        yield base64.b64encode(cloudpickle.dumps((key, function, meta))).decode("ascii")
    except Exception as error:  # a function may refer to anything
        logger.debug("the worker does not get the registered function %s: %s", key, error)


def _is_provided(key: tuple[str, ...], module: str) -> bool:
    """Whether an entry point names the package of the module: each process finds it by itself."""
    group = "_".join(key[:-1]).replace("internal_factories", "factories")
    package = module.partition(".")[0]
    return any(point.module.partition(".")[0] == package for point in entry_points(group=group))


def is_own_factory(name: str, language: str) -> bool:
    """Whether the code of a user, or unknown code, provides the factory of a component."""
    for key in ((*FACTORIES, name), (*FACTORIES, f"{language}.{name}")):
        if (function := catalogue.REGISTRY.get(key)) is not None:
            module = _module_of(function)
            return module.partition(".")[0] not in LIBRARIES and not _is_provided(key, module)
    return not (
        Language.has_factory(name) or any(p.name == name for p in entry_points(group="spacy_factories"))
    )


def register(code: RegisteredCode) -> None:
    """Register the functions of another process, the parent of this one. Failures are logged.

    It unpickles: `code` must come from the parent itself, as in `multiprocessing`.
    """
    for module in code.modules:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # a pipeline that needs the module raises a clear error
            logger.warning("the module %s, which registers functions, is not imported: %s", module, error)
    for name, pickled in code.functions.items():
        try:
            key, function, meta = cloudpickle.loads(base64.b64decode(pickled))
        except Exception as error:  # it may refer to a module that only the parent can import
            logger.warning("the function %s is not registered: %s", name, error)
            continue
        catalogue.REGISTRY[key] = function
        if meta is not None:
            Language.set_factory_meta(key[-1], meta)


def is_unregistered(error: Exception) -> bool:
    """Whether spaCy misses a component (E002) or a function (E893) that code of users may register."""
    return str(error).startswith(("[E002]", "[E893]"))
