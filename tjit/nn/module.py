"""Module: the base class of layers, models and losses."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from tjit.autograd.tape import no_grad
from tjit.capture.calls import callee
from tjit.devices import Device
from tjit.dtypes import DType, as_dtype, f16, f32, f64
from tjit.dtypes import bf16 as bf16_
from tjit.errors import ArgumentError, DTypeError, TypeRuleError
from tjit.location import user_location
from tjit.nn.parameter import Buffer, Parameter
from tjit.ops.elementwise import cast
from tjit.ops.public import write_into
from tjit.tensor import Tensor

__all__ = ["IncompatibleKeys", "Module", "name_parameters"]

M = TypeVar("M", bound="Module")
T = TypeVar("T")


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` could not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"

    __str__ = __repr__


class RemovableHandle:
    """Takes a hook away again: `handle.remove()`, or at the end of a `with` block."""

    _ids = itertools.count()

    def __init__(self, hooks: dict[int, Any]) -> None:
        self.hooks = hooks
        self.id = next(self._ids)

    def remove(self) -> None:
        self.hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Module:
    """A function with parameters. Subclasses define `forward` and assign parameters, buffers and modules as attributes.

    Attributes:
        training: whether dropout drops and batch norm measures; `train()` and `eval()` set it.
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # past __setattr__, which needs these
        for name in ("_parameters", "_buffers", "_modules", "_forward_pre_hooks", "_forward_hooks"):
            object.__setattr__(self, name, OrderedDict())
        object.__setattr__(self, "_non_persistent", set())
        object.__setattr__(self, "training", True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; `module(x)` calls it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._forward_pre_hooks and not self._forward_hooks:
            return callee(self.forward)(*args, **kwargs)
        for hook in tuple(self._forward_pre_hooks.values()):
            changed = callee(hook)(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = callee(self.forward)(*args, **kwargs)
        for hook in tuple(self._forward_hooks.values()):
            changed = callee(hook)(self, args, result)
            result = result if changed is None else changed
        return result

    # -- attributes ----------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        for group in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(group, {})
            if name in found:
                return found[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        kinds = {Parameter: self.register_parameter, Module: self.register_module, Buffer: self._register_buffer_object}
        for kind, register in kinds.items():
            if isinstance(value, kind):
                self._need_init()
                self._forget(name)
                register(name, value)
                return
        for group, kind in (("_parameters", Parameter), ("_modules", Module), ("_buffers", Tensor)):
            held = self.__dict__.get(group, {})
            if name not in held:
                continue
            if value is not None and not isinstance(value, kind):
                raise DTypeError(
                    f"cannot assign '{type(value).__name__}' as {group[1:-1]} '{name}' "
                    f"(tjit.nn.{kind.__name__} or None expected)",
                    user_location(),
                )
            held[name] = value
            return
        object.__setattr__(self, name, value)

    def _need_init(self) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameters or modules before Module.__init__() call")

    def _forget(self, name: str) -> None:
        self.__dict__.pop(name, None)
        for group in (self._parameters, self._buffers, self._modules):
            # in place where the kind stays the same: the order of parameters is part of a module's state
            if name in group and group[name] is None:
                continue
            if name in group:
                group[name] = None

    def __delattr__(self, name: str) -> None:
        for group in (self._parameters, self._buffers, self._modules):
            if name in group:
                del group[name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under `name`; None reserves the name.

        Raises:
            ArgumentError: the name is taken, empty or dotted.
            DTypeError: `param` is no Parameter.
        """
        self._check_name(name, self._parameters, "parameter")
        if param is not None and not isinstance(param, Parameter):
            raise DTypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
                "(tjit.nn.Parameter or None required)",
                user_location(),
            )
        _move_to(self._parameters, name, param, (self._buffers, self._modules))
        if param is not None:
            param.__dict__.setdefault("name", name)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but no parameter under `name`; `persistent` ones are in `state_dict()`."""
        self._check_name(name, self._buffers, "buffer")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise DTypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (Tensor or None required)",
                user_location(),
            )
        _move_to(self._buffers, name, tensor, (self._parameters, self._modules))
        (self._non_persistent.discard if persistent else self._non_persistent.add)(name)
        if tensor is not None:
            tensor.__dict__.setdefault("name", name)

    def _register_buffer_object(self, name: str, buffer: Buffer) -> None:
        self.register_buffer(name, buffer, buffer.__dict__["persistent"])

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a module under `name`; None reserves the name."""
        self._check_name(name, self._modules, "module")
        if module is not None and not isinstance(module, Module):
            raise DTypeError(f"{type(module).__name__} is not a Module subclass", user_location())
        _move_to(self._modules, name, module, (self._parameters, self._buffers))

    add_module = register_module

    def _check_name(self, name: str, group: Mapping[str, Any], what: str) -> None:
        self._need_init()
        if not isinstance(name, str):
            raise DTypeError(f"{what} name should be a string. Got {type(name).__name__}", user_location())
        if "." in name:
            raise KeyError(f'{what} name can\'t contain "."')
        if name == "":
            raise KeyError(f'{what} name can\'t be empty string ""')
        held = self._parameters.get(name), self._buffers.get(name), self._modules.get(name)
        taken = any(h is not None for h in held) or (hasattr(self, name) and not any(name in g for g in self._groups()))
        if taken:
            raise KeyError(f"attribute '{name}' already exists")

    def _groups(self) -> tuple[dict[str, Any], ...]:
        return self._parameters, self._buffers, self._modules

    # -- walking -------------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly in this one, each once, with their names."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules directly in this one."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all in it, with dotted names."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all in it."""
        return (module for _, module in self.named_modules())

    def _named_members(
        self, members: Callable[[Module], Mapping[str, Any]], prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, member in members(module).items():
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield (f"{path}.{name}" if path else name), member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The parameters of this module and, with `recurse`, of all in it, with dotted names."""
        return self._named_members(lambda m: m._parameters, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, for optimizers."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The buffers of this module and, with `recurse`, of all in it, with dotted names."""
        return self._named_members(lambda m: m._buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module under a dotted name.

        Raises:
            AttributeError: there is none.
        """
        module: Any = self
        for part in target.split(".") if target else ():
            module = getattr(module, part, None)
            if not isinstance(module, Module):
                raise AttributeError(f"{type(self).__name__} has no module `{target}`")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter under a dotted name."""
        path, _, name = target.rpartition(".")
        parameter = getattr(self.get_submodule(path), name, None)
        if not isinstance(parameter, Parameter):
            raise AttributeError(f"{type(self).__name__} has no parameter `{target}`")
        return parameter

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call `fn` on every module in this one, then on this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # -- state ---------------------------------------------------------------------------------------------------------

    def state_dict(
        self, destination: dict[str, Tensor] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """Every parameter and persistent buffer by dotted name; the tensors share the module's memory."""
        found: dict[str, Tensor] = OrderedDict() if destination is None else destination
        for name, tensor in self._own_state():
            found[prefix + name] = tensor if keep_vars else _detached(tensor)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(found, f"{prefix}{name}.", keep_vars)
        return found

    def _own_state(self) -> Iterator[tuple[str, Tensor]]:
        buffers = ((n, b) for n, b in self._buffers.items() if n not in self._non_persistent)
        return ((n, t) for n, t in (*self._parameters.items(), *buffers) if t is not None)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy `state_dict` into this module's parameters and buffers.

        Args:
            strict: every key must match.
            assign: take the given tensors themselves, not their elements.

        Raises:
            TypeRuleError: keys are missing or unexpected while `strict`, or shapes differ; all are listed.
        """
        if not isinstance(state_dict, Mapping):
            raise DTypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.", user_location())
        own = self.state_dict(keep_vars=True)
        missing = [key for key in own if key not in state_dict]
        unexpected = [key for key in state_dict if key not in own]
        problems = _unmatched(missing, unexpected) if strict else []
        problems += [
            f"size mismatch for {key}: copying a param with shape {_shape(state_dict[key])} from checkpoint, "
            f"the shape in current model is {tensor.shape}."
            for key, tensor in own.items()
            if key in state_dict and tuple(_shape(state_dict[key])) != tuple(tensor.shape)
        ]
        if problems:
            lines = "\n\t".join(problems)
            raise TypeRuleError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{lines}", user_location()
            )
        for key, tensor in own.items():
            if key in state_dict:
                self._load(key, tensor, state_dict[key], assign)
        return IncompatibleKeys(missing, unexpected)

    def _load(self, key: str, tensor: Tensor, value: Any, assign: bool) -> None:
        from tjit.ops.creation import as_tensor

        value = as_tensor(value)
        if not assign:
            with no_grad():
                write_into(tensor, cast(value, tensor.dtype))
            return
        path, _, name = key.rpartition(".")
        module = self.get_submodule(path)
        if name in module._parameters:
            module._parameters[name] = Parameter(value, tensor.requires_grad)
        else:
            module._buffers[name] = value

    # -- mode, dtype, gradients ----------------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Set `training` here and in all modules."""
        if not isinstance(mode, bool):
            raise ArgumentError("training mode is expected to be boolean", user_location())
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """`train(False)`."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Have gradients computed for all parameters, or not."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all parameters' gradients, or write zeros into them."""
        zero_gradients(self.parameters(), set_to_none)

    def to(self: M, *args: Any, **kwargs: Any) -> M:
        """Convert float parameters and buffers: `to(device)`, `to(dtype)`, `to(device, dtype)`, `to(tensor)`.

        Raises:
            DTypeError: the dtype is not float.
            ArgumentError: the device is not the CPU.
        """
        device, dtype = _parsed_to(*args, **kwargs)
        if dtype is not None and not dtype.is_floating_point:
            raise DTypeError(
                f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype!r}", user_location()
            )
        if device is not None:
            from tjit.ops.creation import usable_device

            usable_device(device)
        return self if dtype is None else self._convert(dtype)

    def _convert(self: M, dtype: DType) -> M:
        for tensor in itertools.chain(self.parameters(), self.buffers()):
            if tensor.dtype.is_floating_point and tensor.dtype is not dtype:
                tensor._data = tensor.array.astype(dtype.numpy)
                tensor._storage.version += 1
                if tensor._grad is not None:
                    tensor._grad = Tensor(tensor._grad.array.astype(dtype.numpy))
        return self

    def type(self: M, dst_type: Any) -> M:
        """`to(dtype)`."""
        return self._convert(as_dtype(dst_type))

    def float(self: M) -> M:
        """Float parameters and buffers as f32."""
        return self._convert(f32)

    def double(self: M) -> M:
        """Float parameters and buffers as f64."""
        return self._convert(f64)

    def half(self: M) -> M:
        """Float parameters and buffers as f16."""
        return self._convert(f16)

    def bfloat16(self: M) -> M:
        """Float parameters and buffers as bf16."""
        return self._convert(bf16_)

    def cpu(self: M) -> M:
        """The module, which is on the CPU."""
        return self.to("cpu")

    def cuda(self: M, device: Any = None) -> M:
        """`to("cuda")`."""
        return self.to("cuda" if device is None else device)

    def share_memory(self: M) -> M:
        """The module."""
        return self

    # -- hooks ---------------------------------------------------------------------------------------------------------

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(module, args) before `forward`; what it returns, unless None, replaces the arguments."""
        return _add_hook(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(module, args, result) after `forward`; what it returns, unless None, replaces the result."""
        return _add_hook(self._forward_hooks, hook)

    # -- printing ------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What `repr` shows between the parentheses besides modules."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        children = [f"({name}): {_indented(text)}" for name, text in self._shown_children()]
        if not children and len(extra_lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(extra_lines + children) + "\n)"

    def _shown_children(self) -> Iterable[tuple[str, str]]:
        return ((name, repr(module)) for name, module in self._modules.items())


def _move_to(group: dict[str, Any], name: str, value: Any, others: tuple[dict[str, Any], ...]) -> None:
    for other in others:
        other.pop(name, None)
    group[name] = value


def _add_hook(hooks: dict[int, Any], hook: Callable[..., Any]) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")


def _detached(tensor: Tensor) -> Tensor:
    from tjit.ops.shape import detach

    return detach(tensor)


def _shape(value: Any) -> Any:
    from tjit.ops.creation import as_tensor

    return as_tensor(value).shape


def _unmatched(missing: list[str], unexpected: list[str]) -> list[str]:
    problems = []
    for what, keys in (("Unexpected", unexpected), ("Missing", missing)):
        if keys:
            listed = ", ".join(f'"{k}"' for k in keys)
            problems.append(f"{what} key(s) in state_dict: {listed}. ")
    return problems


def _parsed_to(*args: Any, device: Any = None, dtype: Any = None, **_: Any) -> tuple[Any, DType | None]:
    for arg in args:
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif (
            isinstance(arg, Device)
            or (isinstance(arg, str) and arg.split(":")[0] in ("cpu", "cuda"))
            or isinstance(arg, int)
        ):
            device = arg
        elif not isinstance(arg, bool):
            dtype = arg
    return device, None if dtype is None else as_dtype(dtype)


def zero_gradients(tensors: Any, set_to_none: bool) -> None:
    """Drop the gradients of `tensors`, or write zeros into them."""
    from tjit.ops.creation import zeros_like

    for tensor in tensors:
        if set_to_none:
            tensor.grad = None  # without reading it: a captured step then does not depend on what it was
        elif tensor.grad is not None:
            with no_grad():
                tensor.grad = _detached(tensor.grad)
                write_into(tensor.grad, zeros_like(tensor.grad))


def name_parameters(module: Module) -> None:
    """Give parameters and buffers their dotted names, which dumps of compiled functions then show."""
    for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        tensor.__dict__["name"] = name
