"""The C header of a package: one inline function for each entry point and each number of the state."""

from __future__ import annotations

from collections.abc import Sequence

from tjit import dtypes
from tjit.dtypes import DType
from tjit.export.entry import Entry, Field
from tjit.export.manifest import entry_symbols
from tjit.export.naming import unique
from tjit.export.state import State
from tjit.export.table import dlpack_code
from tjit.ir.dims import Dim, DimExpr, Symbol

__all__ = ["c_identifier", "write_header"]

_C_TYPES: dict[DType, str] = {
    dtypes.bool_: "uint8_t", dtypes.u8: "uint8_t", dtypes.i8: "int8_t", dtypes.i16: "int16_t", dtypes.i32: "int32_t",
    dtypes.i64: "int64_t", dtypes.f16: "uint16_t", dtypes.bf16: "uint16_t", dtypes.f32: "float", dtypes.f64: "double",
}  # fmt: skip
_NOTES = {dtypes.f16: ", as the bits of a half", dtypes.bf16: ", as the bits of a bfloat16", dtypes.bool_: ", 0 or 1"}
_WORDS = frozenset(
    """
    alignas alignof and asm auto bitand bitor bool break case catch char class compl const continue default delete do
    double else enum errno explicit export extern false float for friend goto if inline int long main mutable namespace
    new not operator or private protected public register restrict return short signed sizeof static struct switch
    template this throw true try typedef typeid typename typeof union unsigned using virtual void volatile while xor
    """.split()  # noqa: SIM905
)


def c_identifier(text: str) -> str:
    """`text` as an identifier of C and C++."""
    name = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in text) or "_"
    return f"_{name}" if name[0].isdigit() else f"{name}_" if name in _WORDS else name


def write_header(name: str, entries: Sequence[Entry], state: State) -> str:
    """The text of NAME.h."""
    prefix = c_identifier(name)
    guard = f"{prefix.upper()}_TJIT_H"
    names = ", ".join(entry.name for entry in entries)
    numbers = [n for n in state.types if n in state.numbers]
    taken: set[str] = set()
    parts = [
        f"/* {prefix}: {names}. Written by tjit.export; needs tjit.h and tjit.c.\n *\n"
        f' *   tjit_package *{prefix};\n *   tjit_load("{prefix}.tjit", &{prefix}, &error)\n *\n'
        " * Arrays are contiguous, in C order, and are the caller's. Each function returns TJIT_OK, or another\n"
        " * tjit_status with a message in *error, where error is not NULL.\n */",
        f"#ifndef {guard}\n#define {guard}\n",
        '#include "tjit.h"\n',
        '#ifdef __cplusplus\nextern "C" {\n#endif\n',
        *(_entry(unique(f"{prefix}_{c_identifier(entry.name)}", taken), entry) for entry in entries),
        *(_number(unique(f"{prefix}_set_{c_identifier(n)}", taken), n) for n in numbers),
        "#ifdef __cplusplus\n}\n#endif\n",
        f"#endif /* {guard} */\n",
    ]
    return "\n".join(parts)


def _number(function: str, name: str) -> str:
    return (
        f"/* Set {c_identifier(name)}, a number of the state. */\n"
        f"static inline int {function}(tjit_package *package, double value, tjit_error *error) {{\n"
        f'  return tjit_set_number(package, "{_quoted(name)}", value, error);\n}}\n'
    )


def _entry(function: str, entry: Entry) -> str:
    taken = {"package", "error", "inputs", "outputs", "entry", "status"}
    symbols = entry_symbols(entry)
    words = {s.name: unique(c_identifier(s.name), taken) for s in symbols}
    inputs = [(_variable(f.name, taken), f) for f in entry.arguments]
    outputs = [(_variable(f.name, taken), f) for f in entry.outputs]
    parameters = [
        "tjit_package *package",
        *(f"{'' if f.written else 'const '}{_C_TYPES[f.type.dtype]} *{n}" for n, f in inputs),
        *(f"int64_t {words[s.name]}" for s in symbols),
        *(f"{_C_TYPES[f.type.dtype]} *{n}" for n, f in outputs),
        "tjit_error *error",
    ]
    lines = [
        _comment(entry, symbols, words, inputs, outputs),
        f"static inline int {function}({', '.join(parameters)}) {{",
        f'  const tjit_entry *entry = tjit_find(package, "{_quoted(entry.name)}");',
        *(line for n, f in inputs for line in _shape(n, f, words)),
        *(line for n, f in outputs for line in _shape(n, f, words)),
        *_tensors("inputs", inputs),
        *_tensors("outputs", outputs),
        *(line for i, (n, f) in enumerate(outputs) for line in _asked(i, n, f, words, len(inputs))),
        f"  return tjit_call(entry, {_given('inputs', inputs)}, {_given('outputs', outputs)}, error);",
        "}\n",
    ]
    return "\n".join(lines)


def _variable(name: str, taken: set[str]) -> str:
    """A name for an array, whose shape is called NAME_shape."""
    found = unique(c_identifier(name), taken)
    while f"{found}_shape" in taken:
        found = unique(c_identifier(name), taken)
    taken.add(f"{found}_shape")
    return found


def _comment(
    entry: Entry,
    symbols: Sequence[Symbol],
    words: dict[str, str],
    inputs: Sequence[tuple[str, Field]],
    outputs: Sequence[tuple[str, Field]],
) -> str:
    lines = [f"/* {entry.name}"]
    for what, fields in (("in", inputs), ("out", outputs)):
        for n, f in fields:
            note = _NOTES.get(f.type.dtype, "")
            lines.append(f" *   {'in, out' if f.written else what:8}{n}: {f.type}{note}")
    for s in symbols:
        top = "" if s.maximum is None else f", at most {s.maximum}"
        lines.append(f" *   size    {words[s.name]}: at least {s.minimum}{top}")
    return "\n".join(lines) + "\n */"


def _constant_or_symbol(d: Dim, words: dict[str, str]) -> str | None:
    if not isinstance(d, DimExpr):
        return str(d)
    return words.get(str(d))


def _shape(name: str, f: Field, words: dict[str, str]) -> list[str]:
    if f.type.ndim == 0:
        return []
    # a dim that is an expression of sizes is asked for below
    return [f"  int64_t {name}_shape[] = {{{', '.join(_constant_or_symbol(d, words) or '0' for d in f.type.shape)}}};"]


def _tensors(array: str, fields: Sequence[tuple[str, Field]]) -> list[str]:
    if not fields:
        return []
    lines = [f"  DLTensor {array}[{len(fields)}];"]
    for i, (n, f) in enumerate(fields):
        code, bits = dlpack_code(f.type.dtype)
        shape = f"{n}_shape" if f.type.ndim else "NULL"
        lines.append(f"  {array}[{i}] = tjit_tensor((void *){n}, {code}, {bits}, {f.type.ndim}, {shape});")
    return lines


def _asked(i: int, name: str, f: Field, words: dict[str, str], n_inputs: int) -> list[str]:
    if all(_constant_or_symbol(d, words) for d in f.type.shape):
        return []
    return [
        "  {",
        f"    int status = tjit_output_shape(entry, inputs, {n_inputs}, {i}, {name}_shape, error);",
        "    if (status != TJIT_OK) return status;",
        "  }",
    ]


def _given(array: str, fields: Sequence[tuple[str, Field]]) -> str:
    return f"{array}, {len(fields)}" if fields else "NULL, 0"


def _quoted(text: str) -> str:
    return "".join(
        c if c.isascii() and c.isprintable() and c not in '"\\?' else "".join(f"\\{b:03o}" for b in c.encode())
        for c in text
    )
