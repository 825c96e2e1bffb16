"""The fork-join thread pool, emitted with every program (docs/design/0001). Its state is the memory behind `pool`.

    void *tjit.pool_create(int32_t threads)             threads, the caller's included; they start at the first use
    void tjit.pool_destroy(void *pool)                  waits for a running call; no call may come after
    void tjit.pool_resize(void *pool, int32_t threads)  waits for a running call; other threads may go on calling
    void tjit.pool_forked(void *pool)                   in the child of a fork: forget the threads, start new ones
    int64_t tjit.pool_threads(void *pool)               the caller's included; 1 for NULL
    void tjit.parallel_for(void *pool, void (*kernel)(void **, int64_t, int64_t), void **args, int64_t tasks,
                           int64_t words, int64_t scratch)

A kernel that needs scratch memory finds that of its thread, `scratch` bytes, at args[2]: the caller's is there, and
each worker has a copy of the arguments, `words` of them, with memory of its own, which it keeps from job to job. Both
numbers are 0 for kernels that need none.

One 64-bit word, `state`, holds everything that threads agree on:

    bits 32..63  epoch: number of the job
    bit 30       OPEN: workers may join the job
    bit 29       WAITING: the caller sleeps until the last worker has left
    bit 28       STOP: workers end
    bits 0..23   number of workers in the job

A caller that gets the lock writes the job, opens it, takes tasks like any worker, closes it, and waits until the
workers that joined have left: it never waits for one that was late. A worker joins by a compare-and-swap that adds
one to the open state it saw, so a job cannot change under it. A caller that does not get the lock, because another
call or an enclosing one has it, runs its tasks itself.

Some schedulers start or wake a thread on the processor of the one that does it, which is busy with the job: the caller
notes its processor before it wakes or starts workers, and a worker that finds itself there moves away first.

Tasks are shared out in ranges, one for each thread that takes part: a thread takes the tasks of its own range from the
front, then what is left of others' from the back. So a thread does the same part of job after job and finds in its
core's cache what it wrote there, and one that is late or held up leaves the rest to the others. A range is a 64-bit
word, its first task in the low half and its end in the high half.

A worker without a job spins, then sleeps on the epoch. It announces itself in `sleepers` before it checks the epoch; a
caller changes the epoch before it reads `sleepers`; all four are sequentially consistent, so one sees the other.

After a fork no worker is there to join, so a child that skips `pool_forked` runs everything on the caller. Pools are
created and destroyed by one image and may be used by others: workers run the code of the creating image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from llvmlite.ir.instructions import StoreAtomicInstr

from tjit.codegen.llvm.builder import Builder
from tjit.errors import CodegenError

__all__ = ["emit_threads"]

Value = Any  # llvmlite's builder has no types

_PTR, _I1, _I8, _I32, _I64, _VOID = (
    ir.PointerType(),
    ir.IntType(1),
    ir.IntType(8),
    ir.IntType(32),
    ir.IntType(64),
    ir.VoidType(),
)
# llvmlite finds the signature of an indirect call in the pointer's type; in the text all pointers are opaque.
_KERNEL = ir.FunctionType(_VOID, [_PTR, _I64, _I64]).as_pointer()

_FIELDS = {
    "state": 0,
    "epoch": 4,  # the high half of state
    "kernel": 8,
    "args": 16,
    "tasks": 24,
    "processor": 32,  # where the caller was when it last woke or started workers
    "words": 40,
    "scratch": 48,
    "parts": 56,  # ranges of the job
    "born": 64,  # workers that run
    "busy": 128,
    "wanted": 132,
    "workers": 136,
    "sleepers": 140,
    "handles": 144,
    "work": 152,
    "ranges": 192,
}
_HEAD = 192

_ACTIVE, _STOP, _WAITING, _OPEN, _EPOCH = (1 << 24) - 1, 1 << 28, 1 << 29, 1 << 30, 1 << 32
_EPOCH_MASK = -_EPOCH

_SPIN_NANOSECONDS = 150_000
_MAX_THREADS = 1024
_SIZE = _HEAD + 8 * _MAX_THREADS
_MASK_WORDS = 16  # of a set of processors, as in glibc: 1024 bits

_SCRATCH_ARGUMENT = 2
_LINE, _HUGE_PAGE = 64, 1 << 21

_FUTEX_SYSCALL = {"x86_64": 202, "aarch64": 98}
_MADVISE_SYSCALL = {"x86_64": 28, "aarch64": 233}
_MADV_HUGEPAGE = 14
_FUTEX_WAIT, _FUTEX_WAKE = 128, 129  # the private ones
# Intrinsics: LLVM's wheel has assembly parsers, which inline assembly needs, for the host only.
# AArch64's own yield does nothing on most cores; isb waits some tens of cycles.
_PAUSE = {"x86_64": ("llvm.x86.sse2.pause", ()), "aarch64": ("llvm.aarch64.isb", (15,))}
_CLOCK_MONOTONIC = 1
_SIG_SETMASK = 2


def emit_threads(architecture: str) -> ir.Module:
    """The module with the six functions above, for Linux on `architecture` (the first part of an LLVM triple).

    Raises:
        CodegenError: the system call of this architecture is not known.
    """
    if architecture not in _FUTEX_SYSCALL:
        raise CodegenError(f"the thread pool is written for {' and '.join(_FUTEX_SYSCALL)}, not for {architecture}")
    pool = _Pool(architecture)
    pool.emit_futex()
    pool.emit_tired()
    pool.emit_run()
    pool.emit_allocate()
    pool.emit_work()
    pool.emit_move_away()
    pool.emit_worker()
    pool.emit_wait()
    pool.emit_start()
    pool.emit_stop()
    pool.emit_parallel_for()
    pool.emit_create()
    pool.emit_destroy()
    pool.emit_threads_of()
    pool.emit_resize()
    pool.emit_forked()
    return pool.module


class _Pool:
    """The module under construction."""

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self.module = ir.Module("tjit.threads")
        self.functions: dict[str, ir.Function] = {}
        declare = self.declare
        declare("malloc", _PTR, [_I64])
        declare("free", _VOID, [_PTR])
        declare("aligned_alloc", _PTR, [_I64, _I64])
        declare("pthread_create", _I32, [_PTR, _PTR, _PTR, _PTR])
        declare("pthread_join", _I32, [_I64, _PTR])
        declare("pthread_sigmask", _I32, [_I32, _PTR, _PTR])
        declare("sigfillset", _I32, [_PTR])
        declare("sched_yield", _I32, [])
        declare("sched_getcpu", _I32, [])
        declare("sched_getaffinity", _I32, [_I32, _I64, _PTR])
        declare("sched_setaffinity", _I32, [_I32, _I64, _PTR])
        declare("clock_gettime", _I32, [_I32, _PTR])
        declare("syscall", _I64, [_I64], var_arg=True)
        declare("memcpy", _PTR, [_PTR, _PTR, _I64])
        name, operands = _PAUSE[architecture]
        declare(name, _VOID, [_I32] * len(operands))

    # Building blocks.

    def declare(self, name: str, result: ir.Type, arguments: list[ir.Type], var_arg: bool = False) -> ir.Function:
        function = ir.Function(self.module, ir.FunctionType(result, arguments, var_arg), name)
        function.attributes.add("nounwind")
        self.functions[name] = function
        return function

    def define(self, name: str, result: ir.Type, *arguments: ir.Type) -> tuple[_Builder, list[ir.Argument]]:
        """A function; those without the prefix `tjit.` stay inside the object."""
        function = self.declare(name, result, list(arguments))
        if not name.startswith("tjit."):
            function.linkage = "internal"
        # The first program of a process waits for the pool: LLVM spends 7 ms on it so, not 22, and it forks as fast.
        function.attributes.add("optnone")
        function.attributes.add("noinline")
        return _Builder(self, function), list(function.args)

    # Functions inside the object.

    def emit_futex(self) -> None:
        """void futex(word, operation, value)."""
        b, (word, operation, value) = self.define("futex", _VOID, _PTR, _I32, _I32)
        number = _I64(_FUTEX_SYSCALL[self.architecture])
        b.call_function(
            "syscall", number, word, b.sext(operation, _I64), b.zext(value, _I64), _PTR(None), _PTR(None), _I64(0)
        )
        b.ret_void()

    def emit_tired(self) -> None:
        """bool tired(deadline): the spinning time that began with the first call has passed; *deadline starts as 0."""
        b, (deadline,) = self.define("tired", _I1, _PTR)
        time = b.alloca(ir.ArrayType(_I64, 2))
        b.call_function("clock_gettime", _I32(_CLOCK_MONOTONIC), time)
        seconds = b.load(time, typ=_I64)
        nanoseconds = b.load(b.gep(time, [_I64(1)], source_etype=_I64), typ=_I64)
        now = b.add(b.mul(seconds, _I64(1_000_000_000)), nanoseconds)
        end = b.load(deadline, typ=_I64)
        with b.if_then(b.icmp_signed("==", end, _I64(0))):
            b.store(b.add(now, _I64(_SPIN_NANOSECONDS)), deadline)
            b.ret(_I1(0))
        b.ret(b.icmp_signed(">", now, end))

    def emit_run(self) -> None:
        """void run(pool, args, thread): take tasks of the open job until none is left."""
        b, (pool, args, thread) = self.define("run", _VOID, _PTR, _PTR, _I64)
        kernel = b.load_field(pool, "kernel", _KERNEL)
        tasks, parts = b.load_field(pool, "tasks", _I64), b.load_field(pool, "parts", _I64)
        own = b.urem(thread, parts)
        with b.count_to(parts) as n:
            is_own = b.icmp_signed("==", n, _I64(0))
            part = b.urem(b.add(own, n), parts)
            taken = b.select(is_own, _I64(1), _I64(-1 << 32))
            with b.loop() as leave_if:
                task = b.take(b.gep(b.field(pool, "ranges"), [part], source_etype=_I64), taken, is_own)
                leave_if(b.icmp_signed("<", task, _I64(0)))
                b.call_kernel(kernel, args, task, tasks)
        b.ret_void()

    def emit_allocate(self) -> None:
        """void *allocate(bytes): in huge pages where it fills one; NULL where there is no memory."""
        b, (wanted,) = self.define("allocate", _PTR, _I64)
        is_large = b.icmp_unsigned(">=", wanted, _I64(_HUGE_PAGE))
        unit = b.select(is_large, _I64(_HUGE_PAGE), _I64(_LINE))
        size = b.round_up(wanted, unit)
        memory = b.call_function("aligned_alloc", unit, size)
        with b.if_then(b.and_(is_large, b.icmp_unsigned("!=", memory, _PTR(None)))):
            number = _I64(_MADVISE_SYSCALL[self.architecture])
            b.call_function("syscall", number, memory, size, _I64(_MADV_HUGEPAGE))
        b.ret(memory)

    def emit_work(self) -> None:
        """void work(pool, memory, thread): run tasks on a worker, in memory of its own; none where there is no memory.

        memory[0] is where that memory is, memory[1] its bytes: a copy of the arguments, then scratch.
        """
        b, (pool, memory, thread) = self.define("work", _VOID, _PTR, _PTR, _I64)
        args, scratch = b.load_field(pool, "args", _PTR), b.load_field(pool, "scratch", _I64)
        with b.if_then(b.icmp_signed("==", scratch, _I64(0))):
            b.call_function("run", pool, args, thread)
            b.ret_void()
        copied = b.shl(b.load_field(pool, "words", _I64), _I64(3))
        first = b.round_up(copied, _I64(_LINE))
        wanted, size = b.add(first, scratch), b.gep(memory, [_I64(1)], source_etype=_I64)
        with b.if_then(b.icmp_unsigned("<", b.load(size, typ=_I64), wanted)):
            b.call_function("free", b.load(memory, typ=_PTR))
            found = b.call_function("allocate", wanted)
            b.store(found, memory)
            b.store(b.select(b.icmp_unsigned("==", found, _PTR(None)), _I64(0), wanted), size)
        own = b.load(memory, typ=_PTR)
        with b.if_then(b.icmp_unsigned("!=", own, _PTR(None))):
            b.call_function("memcpy", own, args, copied)
            place = b.gep(own, [_I64(_SCRATCH_ARGUMENT)], source_etype=_PTR)
            b.store(b.gep(own, [first], source_etype=_I8), place)
            b.call_function("run", pool, own, thread)
        b.ret_void()

    def emit_move_away(self) -> None:
        """void move_away(pool): go to another allowed processor if this one is the caller's."""
        b, (pool,) = self.define("move_away", _VOID, _PTR)
        stay = b.append_basic_block("stay")
        here = b.call_function("sched_getcpu")
        b.branch_if(
            b.icmp_signed("!=", here, b.load_atomic(b.field(pool, "processor"), "monotonic", 4, typ=_I32)), stay
        )
        b.branch_if(b.icmp_unsigned(">=", here, _I32(64 * _MASK_WORDS)), stay)
        size, allowed, others = _I64(8 * _MASK_WORDS), b.alloca(_I64, _MASK_WORDS), b.alloca(_I64, _MASK_WORDS)
        got = b.call_function("sched_getaffinity", _I32(0), size, allowed)
        b.branch_if(b.icmp_signed("<", got, _I32(0)), stay)
        index, bit = b.lshr(here, _I32(6)), b.zext(b.and_(here, _I32(63)), _I64)
        any_other = _I64(0)
        for word in range(_MASK_WORDS):
            is_here = b.icmp_signed("==", index, _I32(word))
            without = b.select(is_here, b.not_(b.shl(_I64(1), bit)), _I64(-1))
            rest = b.and_(b.load(b.gep(allowed, [_I64(word)], source_etype=_I64), typ=_I64), without)
            b.store(rest, b.gep(others, [_I64(word)], source_etype=_I64))
            any_other = b.or_(any_other, rest)
        b.branch_if(b.icmp_signed("==", any_other, _I64(0)), stay)
        b.call_function("sched_setaffinity", _I32(0), size, others)
        b.call_function("sched_setaffinity", _I32(0), size, allowed)
        b.branch(stay)
        b.position_at_end(stay)
        b.ret_void()

    def emit_worker(self) -> None:
        """void *worker(pool): a worker's life."""
        b, (pool,) = self.define("worker", _PTR, _PTR)
        state = b.field(pool, "state")
        seen, deadline, spins = b.alloca(_I32), b.alloca(_I64), b.alloca(_I32)
        b.store(b.sub(b.epoch(b.load_atomic(state, "acquire", 8, typ=_I64)), _I32(1)), seen)
        b.store(_I64(0), deadline)
        b.store(_I32(0), spins)
        thread = b.add(b.atomic_rmw("add", b.field(pool, "born"), _I64(1), "monotonic"), _I64(1))
        memory = b.alloca(_PTR, 2)
        for word in range(2):
            b.store(_I64(0), b.gep(memory, [_I64(word)], source_etype=_I64))
        b.call_function("move_away", pool)
        with b.loop() as leave_if:
            found = b.load_atomic(state, "acquire", 8, typ=_I64)
            leave_if(b.has(found, _STOP))
            epoch = b.epoch(found)
            is_new = b.icmp_signed("!=", epoch, b.load(seen, typ=_I32))
            with b.if_else(b.and_(b.has(found, _OPEN), is_new)) as (ready, idle):
                with ready:
                    joined = b.cmpxchg(state, found, b.add(found, _I64(1)), "acquire", "monotonic")
                    with b.if_then(b.extract_value(joined, 1)):
                        b.store(epoch, seen)
                        b.call_function("work", pool, memory, thread)
                        self.leave_job(b, pool)
                        b.store(_I64(0), deadline)
                with idle, b.if_then(b.spin(spins, deadline)):
                    self.sleep(b, pool, epoch)
                    b.call_function("move_away", pool)
                    b.store(_I64(0), deadline)
        b.call_function("free", b.load(memory, typ=_PTR))
        b.ret(_PTR(None))

    def leave_job(self, b: _Builder, pool: Value) -> None:
        old = b.atomic_rmw("sub", b.field(pool, "state"), _I64(1), "acq_rel")
        last = b.icmp_signed("==", b.and_(old, _I64(_ACTIVE | _WAITING)), _I64(1 | _WAITING))
        with b.if_then(last):
            b.call_function("futex", b.field(pool, "state"), _I32(_FUTEX_WAKE), _I32(1))

    def sleep(self, b: _Builder, pool: Value, epoch: Value) -> None:
        sleepers = b.field(pool, "sleepers")
        b.atomic_rmw("add", sleepers, _I32(1), "seq_cst")
        now = b.epoch(b.load_atomic(b.field(pool, "state"), "seq_cst", 8, typ=_I64))
        with b.if_then(b.icmp_signed("==", now, epoch)):
            b.call_function("futex", b.field(pool, "epoch"), _I32(_FUTEX_WAIT), epoch)
        b.atomic_rmw("sub", sleepers, _I32(1), "monotonic")

    def emit_wait(self) -> None:
        """void wait(pool): until no worker is left in the closed job."""
        b, (pool,) = self.define("wait", _VOID, _PTR)
        state = b.field(pool, "state")
        deadline, spins = b.alloca(_I64), b.alloca(_I32)
        b.store(_I64(0), deadline)
        b.store(_I32(0), spins)
        with b.loop() as leave_if:
            leave_if(b.not_(b.has(b.load_atomic(state, "acquire", 8, typ=_I64), _ACTIVE)))
            with b.if_then(b.spin(spins, deadline)):
                old = b.atomic_rmw("or", state, _I64(_WAITING), "acq_rel")
                with b.if_then(b.has(old, _ACTIVE)):
                    expected = b.trunc(b.or_(old, _I64(_WAITING)), _I32)
                    b.call_function("futex", state, _I32(_FUTEX_WAIT), expected)
        b.ret_void()

    def emit_start(self) -> None:
        """void start(pool): start the wanted workers, or as many as the system gives. The lock is held."""
        b, (pool,) = self.define("start", _VOID, _PTR)
        wanted = b.load_field(pool, "wanted", _I32)
        count = b.alloca(_I32)
        b.store(_I32(0), count)
        b.call_function("free", b.load_field(pool, "handles", _PTR))
        handles = b.call_function("malloc", b.mul(b.zext(wanted, _I64), _I64(8)))
        b.store(handles, b.field(pool, "handles"))
        # Workers block all signals: the program's handlers run on its own threads.
        signals, before = b.alloca(ir.ArrayType(_I64, 16)), b.alloca(ir.ArrayType(_I64, 16))
        b.call_function("sigfillset", signals)
        b.call_function("pthread_sigmask", _I32(_SIG_SETMASK), signals, before)
        self.note_processor(b, pool)
        b.store_atomic(_I64(0), b.field(pool, "born"), "monotonic", 8)
        with b.if_then(b.icmp_unsigned("!=", handles, _PTR(None))), b.loop() as leave_if:
            index = b.load(count, typ=_I32)
            leave_if(b.icmp_signed(">=", index, wanted))
            handle = b.gep(handles, [b.zext(index, _I64)], source_etype=_I64)
            work = b.load_field(pool, "work", _PTR)
            failed = b.call_function("pthread_create", handle, _PTR(None), work, pool)
            leave_if(b.icmp_signed("!=", failed, _I32(0)))
            b.store(b.add(index, _I32(1)), count)
        b.call_function("pthread_sigmask", _I32(_SIG_SETMASK), before, _PTR(None))
        started = b.load(count, typ=_I32)
        b.store(started, b.field(pool, "workers"))
        b.store_atomic(started, b.field(pool, "wanted"), "monotonic", 4)
        b.ret_void()

    def note_processor(self, b: _Builder, pool: Value) -> None:
        b.store_atomic(b.call_function("sched_getcpu"), b.field(pool, "processor"), "monotonic", 4)

    def emit_stop(self) -> None:
        """void stop(pool): take the lock, end the workers. The lock stays held."""
        b, (pool,) = self.define("stop", _VOID, _PTR)
        with b.loop() as leave_if:
            leave_if(b.try_lock(pool))
            b.call_function("sched_yield")
        workers = b.load_field(pool, "workers", _I32)
        with b.if_then(b.icmp_signed("!=", workers, _I32(0))):
            self.end_workers(b, pool, workers)
        b.call_function("free", b.load_field(pool, "handles", _PTR))
        b.store(_PTR(None), b.field(pool, "handles"))
        b.ret_void()

    def end_workers(self, b: _Builder, pool: Value, workers: Value) -> None:
        following = b.following_epoch(pool)
        state = b.field(pool, "state")
        b.store_atomic(b.or_(following, _I64(_STOP)), state, "seq_cst", 8)
        b.call_function("futex", b.field(pool, "epoch"), _I32(_FUTEX_WAKE), _I32(_MAX_THREADS))
        handles = b.load_field(pool, "handles", _PTR)
        count = b.alloca(_I32)
        b.store(_I32(0), count)
        with b.loop() as leave_if:
            index = b.load(count, typ=_I32)
            leave_if(b.icmp_signed(">=", index, workers))
            handle = b.gep(handles, [b.zext(index, _I64)], source_etype=_I64)
            b.call_function("pthread_join", b.load(handle, typ=_I64), _PTR(None))
            b.store(b.add(index, _I32(1)), count)
        b.store(_I32(0), b.field(pool, "workers"))
        b.store_atomic(following, state, "release", 8)

    # The functions that programs and loaders call.

    def emit_parallel_for(self) -> None:
        b, operands = self.define("tjit.parallel_for", _VOID, _PTR, _KERNEL, _PTR, _I64, _I64, _I64)
        pool, kernel, args, tasks, *_ = operands
        alone, shared = b.append_basic_block("alone"), b.append_basic_block("shared")
        b.branch_if(b.icmp_unsigned("==", pool, _PTR(None)), alone)
        b.branch_if(b.icmp_signed("<=", tasks, _I64(1)), alone)
        wanted = b.load_atomic(b.field(pool, "wanted"), "monotonic", 4, typ=_I32)
        b.branch_if(b.icmp_signed("==", wanted, _I32(0)), alone)
        b.cbranch(b.try_lock(pool), shared, alone)

        b.position_at_end(shared)
        self.open_job(b, *operands)
        b.call_function("run", pool, args, _I64(0))
        closed = b.atomic_rmw("and", b.field(pool, "state"), _I64(~_OPEN), "acq_rel")
        with b.if_then(b.has(closed, _ACTIVE)):
            b.call_function("wait", pool)
        b.unlock(pool)
        b.ret_void()

        b.position_at_end(alone)
        with b.count_to(tasks) as task:
            b.call_kernel(kernel, args, task, tasks)
        b.ret_void()

    def open_job(self, b: _Builder, pool: Value, *job: Value) -> None:
        workers = b.load_field(pool, "workers", _I32)
        with b.if_then(b.icmp_signed("==", workers, _I32(0)), likely=False):
            b.call_function("start", pool)
        for name, value in zip(("kernel", "args", "tasks", "words", "scratch"), job, strict=True):
            b.store(value, b.field(pool, name))
        self.share_out(b, pool)
        b.store_atomic(b.or_(b.following_epoch(pool), _I64(_OPEN)), b.field(pool, "state"), "seq_cst", 8)
        sleepers = b.load_atomic(b.field(pool, "sleepers"), "seq_cst", 4, typ=_I32)
        with b.if_then(b.icmp_signed("!=", sleepers, _I32(0))):
            helpers = b.sub(b.load_field(pool, "tasks", _I64), _I64(1))
            few = b.icmp_signed("<", helpers, _I64(_MAX_THREADS))
            count = b.trunc(b.select(few, helpers, _I64(_MAX_THREADS)), _I32)
            self.note_processor(b, pool)
            b.call_function("futex", b.field(pool, "epoch"), _I32(_FUTEX_WAKE), count)

    def share_out(self, b: _Builder, pool: Value) -> None:
        """Write the ranges of the job."""
        tasks = b.load_field(pool, "tasks", _I64)
        threads = b.zext(b.add(b.load_field(pool, "workers", _I32), _I32(1)), _I64)
        parts = b.select(b.icmp_signed("<", tasks, threads), tasks, threads)
        b.store(parts, b.field(pool, "parts"))
        with b.count_to(parts) as part:
            first, end = (b.udiv(b.mul(bound, tasks), parts) for bound in (part, b.add(part, _I64(1))))
            place = b.gep(b.field(pool, "ranges"), [part], source_etype=_I64)
            b.store_atomic(b.or_(first, b.shl(end, _I64(32))), place, "monotonic", 8)

    def emit_create(self) -> None:
        b, (threads,) = self.define("tjit.pool_create", _PTR, _I32)
        pool = b.call_function("aligned_alloc", _I64(64), _I64(_SIZE))
        with b.if_then(b.icmp_unsigned("!=", pool, _PTR(None))):
            for offset in range(0, _HEAD, 8):
                b.store(_I64(0), b.gep(pool, [_I64(offset)], source_etype=_I8))
            b.store(b.workers_of(threads), b.field(pool, "wanted"))
            b.store(self.functions["worker"], b.field(pool, "work"))
        b.ret(pool)

    def emit_destroy(self) -> None:
        b, (pool,) = self.define("tjit.pool_destroy", _VOID, _PTR)
        with b.if_then(b.icmp_unsigned("!=", pool, _PTR(None))):
            b.call_function("stop", pool)
            b.call_function("free", pool)
        b.ret_void()

    def emit_threads_of(self) -> None:
        b, (pool,) = self.define("tjit.pool_threads", _I64, _PTR)
        with b.if_then(b.icmp_unsigned("==", pool, _PTR(None))):
            b.ret(_I64(1))
        b.ret(b.zext(b.add(b.load_field(pool, "wanted", _I32), _I32(1)), _I64))

    def emit_resize(self) -> None:
        b, (pool, threads) = self.define("tjit.pool_resize", _VOID, _PTR, _I32)
        b.call_function("stop", pool)
        b.store_atomic(b.workers_of(threads), b.field(pool, "wanted"), "monotonic", 4)
        b.unlock(pool)
        b.ret_void()

    def emit_forked(self) -> None:
        b, (pool,) = self.define("tjit.pool_forked", _VOID, _PTR)
        b.call_function("free", b.load_field(pool, "handles", _PTR))
        b.store(_PTR(None), b.field(pool, "handles"))
        b.store(_I32(0), b.field(pool, "workers"))
        b.store_atomic(_I32(0), b.field(pool, "sleepers"), "monotonic", 4)
        b.store_atomic(b.following_epoch(pool), b.field(pool, "state"), "monotonic", 8)
        b.unlock(pool)
        b.ret_void()


class _Builder(Builder):
    """The builder with the words of this module."""

    def __init__(self, owner: _Pool, function: ir.Function) -> None:
        super().__init__(function.append_basic_block("entry"))
        self.owner = owner

    def call_function(self, name: str, *operands: Value) -> Value:
        return self.call(self.owner.functions[name], operands)

    def call_kernel(self, kernel: Value, args: Value, task: Value, tasks: Value) -> None:
        self.call(kernel, [args, task, tasks])

    def store_atomic(self, value: Value, ptr: Value, ordering: str, align: int) -> ir.Instruction:
        # llvmlite 0.50's own asks an opaque pointer for its pointee.
        store = StoreAtomicInstr(self.block, value, ptr, ordering, align)
        self._insert(store)
        return store

    def field(self, pool: Value, name: str) -> Value:
        return self.gep(pool, [_I64(_FIELDS[name])], inbounds=True, source_etype=_I8)

    def round_up(self, value: Value, unit: Value) -> Value:
        """The next multiple of `unit`, a power of two."""
        return self.and_(self.add(value, self.sub(unit, _I64(1))), self.neg(unit))

    def load_field(self, pool: Value, name: str, type_: ir.Type) -> Value:
        return self.load(self.field(pool, name), typ=type_)

    @contextmanager
    def loop(self) -> Iterator[Callable[[Value], None]]:
        """Repeat until the function that is given is called with a true condition."""
        body, done = self.append_basic_block("loop"), self.append_basic_block("done")
        self.branch(body)
        self.position_at_end(body)
        yield lambda condition: self.branch_if(condition, done)
        self.branch(body)
        self.position_at_end(done)

    @contextmanager
    def count_to(self, end: Value) -> Iterator[Value]:
        """A loop over 0 .. end - 1."""
        count = self.slot(_I64)
        self.store(_I64(0), count)
        with self.loop() as leave_if:
            index = self.load(count, typ=_I64)
            leave_if(self.icmp_signed(">=", index, end))
            yield index
            self.store(self.add(index, _I64(1)), count)

    def take(self, place: Value, taken: Value, is_own: Value) -> Value:
        """A task of the range at `place`, from the front if it `is_own`, else from the back; -1 if none is left.

        Relaxed: what tasks write is published by the release that leaves the job.
        """
        task = self.slot(_I64)
        with self.loop() as leave_if:
            found = self.load_atomic(place, "monotonic", 8, typ=_I64)
            first, end = self.and_(found, _I64((1 << 32) - 1)), self.lshr(found, _I64(32))
            self.store(_I64(-1), task)
            leave_if(self.icmp_signed(">=", first, end))
            self.store(self.select(is_own, first, self.sub(end, _I64(1))), task)
            swapped = self.cmpxchg(place, found, self.add(found, taken), "monotonic", "monotonic")
            leave_if(self.extract_value(swapped, 1))
        return self.load(task, typ=_I64)

    def branch_if(self, condition: Value, target: ir.Block) -> None:
        following = self.append_basic_block()
        self.cbranch(condition, target, following)
        self.position_at_end(following)

    def has(self, state: Value, bits: int) -> Value:
        return self.icmp_signed("!=", self.and_(state, _I64(bits)), _I64(0))

    def epoch(self, state: Value) -> Value:
        return self.trunc(self.lshr(state, _I64(32)), _I32)

    def following_epoch(self, pool: Value) -> Value:
        """The next job's state, neither open nor joined. Only the holder of the lock changes epochs."""
        state = self.load_atomic(self.field(pool, "state"), "monotonic", 8, typ=_I64)
        return self.add(self.and_(state, _I64(_EPOCH_MASK)), _I64(_EPOCH))

    def try_lock(self, pool: Value) -> Value:
        taken = self.cmpxchg(self.field(pool, "busy"), _I32(0), _I32(1), "acquire", "monotonic")
        return self.extract_value(taken, 1)

    def unlock(self, pool: Value) -> None:
        self.store_atomic(_I32(0), self.field(pool, "busy"), "release", 4)

    def workers_of(self, threads: Value) -> Value:
        """threads - 1, within [0, _MAX_THREADS - 1]."""
        above = self.icmp_signed(">", threads, _I32(_MAX_THREADS))
        at_most = self.select(above, _I32(_MAX_THREADS), threads)
        is_some = self.icmp_signed(">", at_most, _I32(1))
        return self.sub(self.select(is_some, at_most, _I32(1)), _I32(1))

    def spin(self, spins: Value, deadline: Value) -> Value:
        """Pause once; whether it is time to sleep. Every 16th pause looks at the clock."""
        name, operands = _PAUSE[self.owner.architecture]
        self.call_function(name, *map(_I32, operands))
        count = self.add(self.load(spins, typ=_I32), _I32(1))
        self.store(count, spins)
        tired = self.slot(_I1)
        self.store(_I1(0), tired)
        with self.if_then(self.icmp_signed("==", self.and_(count, _I32(15)), _I32(0))):
            self.store(self.call_function("tired", deadline), tired)
        return self.load(tired, typ=_I1)

    def slot(self, kind: ir.Type) -> Value:
        """A place on the stack, taken at the function's entry."""
        with self.goto_entry_block():
            return self.alloca(kind)
