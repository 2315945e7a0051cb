import ast
import configparser
import inspect
import json
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import zdckeras as zdc

SETUP = Path(__file__).parents[1] / "setup.cfg"
HEAVY = ("keras", "tensorflow", "jax", "torch", "numpy", "sklearn", "uproot", "matplotlib")
PROBE = f"""
import json, sys
def heavy():
    return [name for name in {HEAVY} if name in sys.modules]
import zdckeras as zdc
first = heavy()
showers = zdc.load("zn", "test", size=2)
print(json.dumps([first, heavy(), len(showers), zdc.detector("zn").name]))
"""


def test_nothing_heavy_is_imported_before_it_is_needed():
    said = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout
    first, later, rows, detector = json.loads(said)
    assert first == [] and (rows, detector) == (2, "zn")
    assert "numpy" in later and not {"keras", "tensorflow", "jax", "torch"} & set(later)


def test_every_name_is_that_of_its_module():
    for name, home in zdc._ATTRIBUTES.items():
        module, _, there = home.partition(":")
        assert getattr(zdc, name) is getattr(import_module(f"zdckeras.{module}"), there or name)
        assert not isinstance(getattr(zdc, name), type(zdc))
    assert zdc.detector is import_module("zdckeras.data.detectors").get_detector


def test_editors_see_the_same_names_from_the_same_modules():
    tree = ast.parse(Path(zdc.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname or alias.name: (part.module, alias.name) for part in block.body for alias in part.names}
    homes = {name: home.partition(":") for name, home in zdc._ATTRIBUTES.items()}
    assert seen == {name: (f"zdckeras.{module}", there or name) for name, (module, _, there) in homes.items()}


def functions(public):
    """A function itself; of a class, how it is made: __init__ and class methods, Keras's own left out."""
    if inspect.isfunction(public):
        return [public]
    made = [item.__func__ for name, item in vars(public).items() if isinstance(item, classmethod) and name[0] != "_"]
    made += [vars(public)[name] for name in ("__init__", "sample") if name in vars(public)]
    return [function for function in made if function.__name__ != "from_config"]


def test_what_is_public_has_type_hints():
    lacking, seen = [], 0
    for name in zdc._ATTRIBUTES:
        for function in functions(getattr(zdc, name)):
            *parameters, returned = [*inspect.signature(function).parameters.values(),
                                     inspect.signature(function).return_annotation]
            plain = [p for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in ("self", "cls")]
            lacking += [f"{name}: {function.__name__}({p.name})" for p in plain if p.annotation is p.empty]
            if returned is inspect.Signature.empty and function.__name__ != "__init__":
                lacking.append(f"{name}: {function.__name__} ->")
            seen += len(plain)
    assert lacking == [] and seen > 150


def test_names_are_listed():
    assert set(zdc.__all__) <= set(dir(zdc)) and len(set(zdc.__all__)) == len(zdc.__all__)
    names = {}
    exec("from zdckeras import *", names)
    assert set(names) - {"__builtins__"} == set(zdc.__all__)


def test_no_module_takes_the_place_of_a_name():
    assert not {module.name for module in pkgutil.iter_modules(zdc.__path__)} & set(zdc.__all__)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="module 'zdckeras' has no attribute 'Detektor'"):
        _ = zdc.Detektor


def test_the_version_has_one_place():
    setup = configparser.ConfigParser()
    setup.read(SETUP)
    assert setup["metadata"]["version"] == "attr: zdckeras.__version__"
    assert [part.isdigit() for part in zdc.__version__.split(".")] == [True, True, True]
