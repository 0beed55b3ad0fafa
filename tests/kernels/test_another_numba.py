"""A Numba that is made differently inside: kernels do without what it lacks, say so once, and are right."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tinydl_kernels.cpu import internals

FILE = Path(internals.__file__)

HIDE = """
import sys, types, warnings
import numba, numba.core.dispatcher, numba.core.serialize, numba.core.bytecode, numba.extending
from numba.core import base, callconv, codegen, compiler, compiler_lock, cpu, dispatcher, registry, serialize
from numba.core import bytecode
from numba._dispatcher import Dispatcher as compiled

def asked_by_us():  # the engine's file of private names, and nothing of Numba's own
    return sys._getframe(2).f_code.co_filename.endswith("internals.py")

class Hidden:
    def __init__(self, name, value):
        self.name, self.value = name, value
    def __get__(self, object, owner):
        if asked_by_us():
            raise AttributeError(self.name)
        get = getattr(type(self.value), "__get__", None)
        return get(self.value, object, owner) if get else self.value

def hide(owner, name):
    if isinstance(owner, types.ModuleType):
        class Without(types.ModuleType):
            def __getattribute__(self, wanted):
                if wanted == name and asked_by_us():
                    raise AttributeError(f"module {owner.__name__} has no attribute {name}")
                return super().__getattribute__(wanted)
        owner.__class__ = Without
    else:
        setattr(owner, name, Hidden(name, getattr(owner, "__dict__", {}).get(name) or getattr(owner, name)))
"""

RUN = """
import numpy as np
from tinydl_kernels import reduce, softmax
from tinydl_kernels.cpu import internals
from tinydl_kernels.machine import dispatch

x = np.random.default_rng(0).normal(size=(40, 30))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    CALLS = [lambda: reduce.sum(x, (1,)), lambda: softmax.softmax(x, 1)]
    found = [f() for f in CALLS]
with dispatch.use("reference"):
    expected = [f() for f in CALLS]
for a, b in zip(found, expected):
    np.testing.assert_allclose(a, b, rtol=1e-12)
print(len(said), "|", *sorted(internals._lost), "|", *[w.message for w in said])
"""

DISPATCHER = "dispatcher._DispatcherBase"
NAMES = {  # owner and name: what is given up
    (DISPATCHER, "typeof_pyval"): "drafts threads",
    (DISPATCHER, "_compile_for_args"): "drafts threads",
    (DISPATCHER, "get_call_template"): "drafts threads",
    ("dispatcher.Dispatcher", "_insert"): "drafts threads",
    ("dispatcher.Dispatcher", "get_compile_result"): "drafts threads",
    (DISPATCHER, "is_compiling"): "drafts threads",
    ("base.BaseContext", "call_internal_no_propagate"): "drafts threads",
    ("base.BaseContext", "get_c_value"): "drafts threads",
    ("cpu.CPUContext", "active_code_library"): "drafts threads",
    ("callconv.CPUCallConv", "_get_return_status"): "drafts threads",
    ("callconv.CPUCallConv", "return_status_propagate"): "drafts threads",
    ("callconv", "excinfo_ptr_t"): "drafts threads",
    ("callconv", "RETCODE_USEREXC"): "drafts threads",
    ("codegen", "JITCodeLibrary"): "drafts",
    ("compiler", "Compiler"): "drafts",
    ("compiler", "CompileResult"): "cache",
    ("compiler.CompileResult", "_rebuild"): "cache",
    ("compiler.CompileResult", "_reduce"): "cache",
    ("serialize", "dumps"): "cache",
    ("bytecode", "FunctionIdentity"): "cache",
    ("codegen.CPUCodegen", "magic_tuple"): "cache tiles",
    ("compiler_lock", "global_compiler_lock"): "",
    ("registry", "cpu_target"): "cache drafts threads tiles",
}
QUICK = {(DISPATCHER, "_compile_for_args")}
FULL = {("codegen", "JITCodeLibrary"), ("callconv", "excinfo_ptr_t"), ("serialize", "dumps"),
        ("codegen.CPUCodegen", "magic_tuple"), ("registry", "cpu_target")}  # fmt: skip


def marks(names: tuple[str, str]) -> list[pytest.MarkDecorator]:
    """The others are nightly: each compiles for seconds."""
    return [] if names in QUICK else [pytest.mark.full if names in FULL else pytest.mark.nightly]


def run(first: str, cache: Path) -> tuple[int, str, str]:
    """How many warnings, what is given up, and the text of the warnings."""
    environment = os.environ | {"TINYDL_CACHE_DIR": str(cache), "TINYDL_NUM_THREADS": "2"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", HIDE + first + RUN], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    count, lost, text = (part.strip() for part in done.stdout.split("|", 2))
    return int(count), lost, text


@pytest.mark.parametrize(("owner", "name"), [pytest.param(*names, marks=marks(names)) for names in NAMES])
def test_a_private_name_that_is_gone(owner: str, name: str, tmp_path: Path) -> None:
    count, lost, text = run(f"hide({owner}, {name!r})\n", tmp_path)
    assert lost == NAMES[owner, name]
    assert count == bool(lost)
    for part in lost.split():
        assert internals.MEANING[part] in text
    if lost:
        assert name in text or "way to the disk" in text or "TypingError" in text


WITHOUT_COMPILER = {
    "no Numba": "sys.modules['numba'] = None\n",
    "one that compiles nothing": "numba.njit = None\n",
    "one that does not fit to NumPy": (
        "class Finder:\n    def find_spec(self, name, *more):\n"
        "        if name == 'numba': raise ImportError('Numba needs NumPy 2.2 or less')\n"
        "for name in [n for n in sys.modules if n.startswith('numba')]: del sys.modules[name]\n"
        "sys.meta_path.insert(0, Finder())\n"
    ),
}


@pytest.mark.parametrize("how", WITHOUT_COMPILER)
def test_without_a_compiler_numpy_does_it(how: str, tmp_path: Path) -> None:
    count, lost, text = run(WITHOUT_COMPILER[how], tmp_path)
    assert (count, lost) == (1, "cache compiler drafts threads tiles")
    assert text.endswith(internals.MEANING["compiler"])


def test_a_wrong_result_is_found(tmp_path: Path) -> None:
    """What raises nothing and computes something else is done without, too."""
    wrong = (
        "from tinydl_kernels.cpu import simd\n"
        "def column(self, number, register=None):\n"
        "    register = register or self.register\n"
        "    return simd.ir.Constant(register, [1.0 if 'float' in str(register) or 'double' in str(register)"
        " else 0] * register.count)\n"
        "simd._Emitter.spread = column\n"
    )
    count, lost, text = run(wrong, tmp_path)
    assert (count, lost) == (1, "tiles")
    assert "ArithmeticError: a kernel of the trial has got a tile wrong" in text


def test_private_names_stand_in_one_file() -> None:
    names = "|".join({name for _, name in NAMES} | {r"numba\.core", r"_cache = "})
    pattern = re.compile(rf"\b({names})\b")
    outside = {
        f"{file.name}: {found.group()}"
        for file in FILE.parents[1].rglob("*.py")
        if file != FILE
        for found in pattern.finditer(file.read_text(encoding="utf-8"))
    }
    assert not outside - {"lazy.py: numba.core"}  # it asks whether the lock is imported
