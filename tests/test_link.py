"""Linking and loading machine code: objects join, images survive storage, damage and misuse are named."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from typing import Any

import llvmlite.binding as llvm
import pytest

import tjit
from tjit.codegen.llvm.module import compile_schedule
from tjit.codegen.llvm.objects import compile_module
from tjit.codegen.llvm.target import Target, host_target, named_target
from tjit.errors import ArgumentError, CodegenError
from tjit.runtime.image import AARCH64, X86_64, Image, host_machine, load
from tjit.runtime.link import link

BASELINES = {X86_64: "x86-64", AARCH64: "aarch64"}


def assemble(body: str, target: Target | str) -> bytes:
    target = named_target(target) if isinstance(target, str) else target
    return compile_module(f'target triple = "{target.triple}"\n{body}', target)


def host(body: str) -> bytes:
    return assemble(body, BASELINES[host_machine()])


def function(loaded, name: str, *types):
    found: Any = ctypes.CFUNCTYPE(*types)(loaded.address(name))
    found.loaded = loaded  # keeps the memory mapped
    return found


CALLER = """
declare i64 @other(i64)
define i64 @twice(i64 %x) { %y = call i64 @other(i64 %x)
  %z = add i64 %y, %y
  ret i64 %z }
"""
CALLEE = "define hidden i64 @other(i64 %x) { %y = add i64 %x, 1\n ret i64 %y }"
STRONG = "define i64 @value() { ret i64 1 }"
WEAK = "define weak_odr i64 @value() { ret i64 {} }"


def test_functions_call_across_objects():
    loaded = load(link([host(CALLER), host(CALLEE)]))

    assert function(loaded, "twice", ctypes.c_int64, ctypes.c_int64)(20) == 42


def test_hidden_functions_are_not_exported():
    image = link([host(CALLER), host(CALLEE)])

    assert list(image.exports) == ["twice"]
    assert image.imports == ()


def test_undefined_functions_come_from_the_c_library():
    image = link([host("declare i32 @getpid()\ndefine i32 @f() { %r = call i32 @getpid()\n ret i32 %r }")])

    assert [name for name, _ in image.imports] == ["getpid"]
    assert function(load(image), "f", ctypes.c_int32)() == os.getpid()


def test_given_symbols_come_before_the_c_library():
    callback = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: -x)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None

    loaded = load(link([host(CALLER)]), {"other": address})

    assert function(loaded, "twice", ctypes.c_int64, ctypes.c_int64)(5) == -10


def test_an_unknown_import_is_named():
    with pytest.raises(CodegenError, match="native code needs the function 'no_such_function_of_libc', which the C"):
        load(link([host("declare void @no_such_function_of_libc()\n" + _calling("no_such_function_of_libc"))]))


def _calling(name: str) -> str:
    return f"define void @f() {{ call void @{name}()\n ret void }}"


def test_addresses_in_constants_are_rebased():
    source = """
    @table = private constant [2 x ptr] [ptr @one, ptr @two]
    define internal i64 @one() noinline { ret i64 11 }
    define internal i64 @two() noinline { ret i64 22 }
    define i64 @pick(i64 %i) { %p = getelementptr ptr, ptr @table, i64 %i
      %f = load ptr, ptr %p
      %r = call i64 %f()
      ret i64 %r }
    """
    image = link([host(source)])
    pick = function(loaded := load(image), "pick", ctypes.c_int64, ctypes.c_int64)

    assert len(image.rebases) == 2
    assert [pick(0), pick(1)] == [11, 22]
    assert loaded.base % 4096 == 0


def test_addresses_of_functions_and_imports_are_found():
    source = """
    declare void @abort()
    define ptr @mine() { ret ptr @mine }
    define ptr @libc() { ret ptr @abort }
    """
    loaded = load(link([host(source)]))

    assert function(loaded, "mine", ctypes.c_void_p)() == loaded.address("mine")
    assert function(loaded, "libc", ctypes.c_void_p)() == ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value


def test_weak_definitions_merge_to_the_first():
    image = link([host(WEAK.replace("{}", "3", 1)), host(WEAK.replace("{}", "4", 1))])

    assert function(load(image), "value", ctypes.c_int64)() == 3


@pytest.mark.parametrize("strong_first", [True, False])
def test_a_strong_definition_wins_over_weak_ones(strong_first):
    objects = [host(STRONG), host(WEAK.replace("{}", "4", 1))]

    image = link(objects if strong_first else objects[::-1])

    assert function(load(image), "value", ctypes.c_int64)() == 1


def test_comdat_groups_are_taken_once():
    source = "$value = comdat any\ndefine weak_odr i64 @value() noinline comdat { ret i64 7 }\n"
    source += "define i64 @NAME() { %r = call i64 @value()\n ret i64 %r }"
    objects = [host(source.replace("NAME", name)) for name in ("a", "b")]

    image = link(objects)

    assert {function(load(image), name, ctypes.c_int64)() for name in ("a", "b", "value")} == {7}
    assert len(image.code) < 2 * len(link(objects[:1]).code)


def test_two_strong_definitions_are_refused():
    with pytest.raises(CodegenError, match="cannot link: two objects define value"):
        link([host(STRONG), host(STRONG)])


@pytest.mark.parametrize("initial", ["7", "zeroinitializer"])
def test_writable_data_is_refused(initial):
    with pytest.raises(CodegenError, match=r"an image cannot hold writable data: section \.(data|bss) of 8 bytes"):
        link([host(f"@g = global [1 x i64] {'[i64 7]' if initial == '7' else initial}")])


def test_thread_local_data_is_refused():
    with pytest.raises(CodegenError, match=r"an image cannot hold thread-local data: section \.tdata of 8 bytes"):
        link([host("@g = thread_local global i64 7")])


def test_bytes_that_are_no_object_are_refused():
    with pytest.raises(CodegenError, match="cannot link: not a little-endian ELF64 object"):
        link([b"MZ" + bytes(100)])


def test_objects_of_two_machines_are_refused():
    with pytest.raises(CodegenError, match=r"link takes one or more objects of one machine, not of \[62, 183\]"):
        link([assemble(STRONG, "x86-64"), assemble(STRONG, "aarch64")])


def test_absolute_32_bit_relocations_are_named():
    machine = llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(
        reloc="static", codemodel="small"
    )
    source = "@t = private constant [64 x i64] zeroinitializer\ndefine i64 @f(i64 %i) {"
    source += " %p = getelementptr i64, ptr @t, i64 %i\n %r = load volatile i64, ptr %p\n ret i64 %r }"
    parsed = llvm.parse_assembly(f'target triple = "x86_64-unknown-linux-gnu"\n{source}')

    with pytest.raises(CodegenError, match=r"cannot link x86-64 relocation R_X86_64_32S against .*not PIC"):
        link([machine.emit_object(parsed)])


def test_wide_vector_constants_stay_aligned():
    target = host_target()
    lanes = target.vector_bytes // 4
    constants = ", ".join(f"float {i}.5" for i in range(lanes))
    filler = host('define i8 @odd() { ret i8 1 }\n@c = constant [3 x i8] c"abc"')
    source = f"define void @f(ptr %p) {{ %x = load <{lanes} x float>, ptr %p, align 4\n"
    source += f" %y = fadd <{lanes} x float> %x, <{constants}>\n"
    source += f" store <{lanes} x float> %y, ptr %p, align 4\n ret void }}"
    values = (ctypes.c_float * lanes)(*range(lanes))

    function(loaded := load(link([filler, assemble(source, target)])), "f", None, ctypes.c_void_p)(values)

    assert list(values) == [2 * i + 0.5 for i in range(lanes)]
    assert loaded.base % 4096 == 0


# Images.

IMAGE = Image(X86_64, b"\x90" * 40, (("malloc", 8), ("free", 16)), ((24, 5),), {"b.c": 0, "a": 40})


def test_an_image_survives_its_bytes():
    data = IMAGE.to_bytes()

    assert Image.from_bytes(data) == IMAGE
    assert Image.from_bytes(data).to_bytes() == data


def test_the_bytes_of_an_image_are_as_documented():
    data = IMAGE.to_bytes()

    magic, version, _, machine, *counts = struct.unpack_from("<8sIIIIII", data)
    total, strings, code, size = struct.unpack_from("<QQQQ", data, 32)
    assert (magic, version, machine, counts) == (b"TJITIMG\0", 1, X86_64, [2, 1, 2])
    assert (total, size, code % 64) == (len(data), 40, 0)
    assert data[code:] == IMAGE.code
    offset, name, zero = struct.unpack_from("<QII", data, 64 + 2 * 16 + 16)
    assert (offset, zero, data[strings + name :][:2]) == (40, 0, b"a\0")


def test_damage_at_any_byte_is_noticed():
    data = IMAGE.to_bytes()

    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(ArgumentError):
            Image.from_bytes(bytes(damaged))


def test_truncation_at_any_byte_is_noticed():
    data = IMAGE.to_bytes()

    for size in range(len(data)):
        with pytest.raises(ArgumentError):
            Image.from_bytes(data[:size])


def test_an_image_of_another_machine_is_refused():
    other = AARCH64 if host_machine() == X86_64 else X86_64
    name = {X86_64: "x86-64", AARCH64: "AArch64"}[other]

    with pytest.raises(ArgumentError, match=f"the image is made for {name}, this computer is"):
        load(Image(other, bytes(16)))


def test_an_unknown_export_is_named():
    loaded = load(link([host(STRONG)]))

    with pytest.raises(ArgumentError, match="the image exports no 'f'; it exports value"):
        loaded.address("f")


def test_memory_is_unmapped_when_the_loaded_image_dies():
    def is_mapped(address: int) -> bool:
        with open("/proc/self/maps") as maps:
            ranges = [[int(x, 16) for x in line.split()[0].split("-")] for line in maps]
        return any(low <= address < high for low, high in ranges)

    loaded = load(Image(host_machine(), bytes(1 << 22)))
    base = loaded.base
    assert is_mapped(base)

    del loaded

    assert not is_mapped(base)


# AArch64: run in an emulator where one is installed, and its fields read back everywhere.

ARM_MAIN = """
@table = private constant [3 x ptr] [ptr @one, ptr @ten, ptr @imported]
@bytes = private constant [5 x i8] c"\\01\\02\\03\\04\\05"
@shorts = private constant [3 x i16] [i16 6, i16 7, i16 8]
@words = private constant [2 x i32] [i32 9, i32 10]
@far = private constant [1200 x i64] zeroinitializer
declare i64 @other(i64)
declare i64 @imported(i64)
define internal i64 @one(i64 %x) noinline { %y = add i64 %x, 1
  ret i64 %y }
define i64 @ten(i64 %x) noinline { %y = mul i64 %x, 10
  ret i64 %y }
define i64 @implementation(i64 %x) noinline { %y = sub i64 %x, 3
  ret i64 %y }
define i64 @tail(i64 %x) noinline { %y = tail call i64 @other(i64 %x)
  ret i64 %y }
define i64 @table_call(i64 %i, i64 %x) noinline { %p = getelementptr ptr, ptr @table, i64 %i
  %f = load ptr, ptr %p
  %y = call i64 %f(i64 %x)
  ret i64 %y }
define ptr @address() noinline { ret ptr @imported }
define i64 @main() {
  %a = call i64 @table_call(i64 0, i64 4)
  %b = call i64 @table_call(i64 1, i64 %a)
  %c = call i64 @table_call(i64 2, i64 %b)
  %d = call i64 @imported(i64 %c)
  %e = call i64 @tail(i64 %d)
  %f = call ptr @address()
  %g = call i64 %f(i64 %e)
  %h = load volatile i8, ptr getelementptr (i8, ptr @bytes, i64 2)
  %i = load volatile i16, ptr getelementptr (i16, ptr @shorts, i64 1)
  %j = load volatile i32, ptr getelementptr (i32, ptr @words, i64 1)
  %k = load volatile i64, ptr getelementptr (i64, ptr @far, i64 1111)
  %v = call <4 x i32> @lanes()
  %l = call i32 @llvm.vector.reduce.add.v4i32(<4 x i32> %v)
  %h64 = zext i8 %h to i64
  %i64 = zext i16 %i to i64
  %j64 = zext i32 %j to i64
  %l64 = zext i32 %l to i64
  %s1 = add i64 %g, %h64
  %s2 = add i64 %s1, %i64
  %s3 = add i64 %s2, %j64
  %s4 = add i64 %s3, %k
  %s5 = add i64 %s4, %l64
  ret i64 %s5 }
declare i32 @llvm.vector.reduce.add.v4i32(<4 x i32>)
define <4 x i32> @lanes() noinline { ret <4 x i32> <i32 11, i32 12, i32 13, i32 14> }
"""
ARM_OTHER = "define hidden i64 @other(i64 %x) { %y = add i64 %x, 20\n ret i64 %y }"
ARM_RESULT = (4 + 1) * 10 - 3 - 3 + 20 - 3 + 3 + 7 + 10 + 0 + 50


def executable(image: Image, main: str, symbols: dict[str, str]) -> bytes:
    """A static AArch64 program that ends with the result of `main`; imports are bound to exports of the image."""
    start, base = 0x400000, 0x401000
    code = bytearray(image.code)
    for name, offset in image.imports:
        struct.pack_into("<Q", code, offset, base + image.exports[symbols[name]])
    for offset, addend in image.rebases:
        struct.pack_into("<Q", code, offset, base + addend)
    distance = base + image.exports[main] - (start + 0x200)
    entry = struct.pack("<III", 0x94000000 | distance >> 2, 0xD2800BA8, 0xD4000001)  # bl main; mov x8, #93; svc #0
    size = 0x1000 + len(code)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, AARCH64, 1, start + 0x200, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    header += struct.pack("<IIQQQQQQ", 1, 7, 0, start, start, size, size, 0x1000)
    return (header.ljust(0x200, b"\0") + entry).ljust(0x1000, b"\0") + code


def test_aarch64_code_runs_in_the_emulator(tmp_path):
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("qemu-aarch64-static is not installed")
    filler = "define void @filler() { ret void }\n@pad = constant [70000 x i8] zeroinitializer"
    image = link([assemble(source, "aarch64") for source in (ARM_MAIN, filler, ARM_OTHER)])
    program = tmp_path / "program"
    program.write_bytes(executable(image, "main", {"imported": "implementation"}))
    program.chmod(0o755)

    result = subprocess.run([emulator, str(program)], check=False)

    assert result.returncode == ARM_RESULT


def test_aarch64_fields_hold_the_distances():
    source = "@c = internal constant [600 x i64] zeroinitializer\n"
    source += "define i64 @f() { %r = load volatile i64, ptr getelementptr (i64, ptr @c, i64 555)\n ret i64 %r }"
    image = link([assemble("define void @first() { ret void }", "aarch64"), assemble(source, "aarch64")])
    at = image.exports["f"]

    adrp, load_ = struct.unpack_from("<II", image.code, at)
    pages = (adrp >> 29 & 3) | (adrp >> 5 & 0x7FFFF) << 2
    assert adrp & 0x9F000000 == 0x90000000
    assert load_ & 0xFFC00000 == 0xF9400000
    address = (at & ~0xFFF) + (pages << 12) + (load_ >> 10 & 0xFFF) * 8
    assert address == len(image.code) - 600 * 8 + 555 * 8


def test_aarch64_calls_go_through_stubs():
    image = link([assemble(CALLER, "aarch64")])
    words = [w for (w,) in struct.iter_unpack("<I", image.code)]
    ((name, slot),) = image.imports

    (call,) = [i for i, w in enumerate(words) if w >> 26 == 0x94000000 >> 26]
    stub = call + (words[call] & 0x3FFFFFF)
    assert name == "other"
    assert words[stub] & 0x9F00001F == 0x90000010
    assert words[stub + 1] == 0xF9400210 | slot % 4096 // 8 << 10
    assert words[stub + 2] == 0xD61F0200


class _Held:
    """A cache in memory."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def get(self, key: str, kind: str) -> bytes | None:
        return self.held.get(key)

    def put(self, key: str, kind: str, data: bytes, label: str = "") -> None:
        self.held[key] = data


def test_images_do_not_depend_on_what_the_cache_holds():
    def program(x, y):
        return (x @ y).relu().sum(1), tjit.softmax(x, 1), x.exp().sum()

    plan = tjit.compile(program).lower(tjit.rand(9, 9), tjit.rand(9, 9)).schedule()
    cache: Any = _Held()
    fresh = compile_schedule(plan, host_target(), cache)
    cache.held = dict(list(cache.held.items())[1::2])

    assert compile_schedule(plan, host_target(), cache) == fresh
