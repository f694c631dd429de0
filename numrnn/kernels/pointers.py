"""Calls of compiled functions by their address.

Numba compiles everything a function calls into it once more. For a loop around all kernels of a network that takes
longer than all of them together; by their addresses it calls the very code that is called from Python, and one loop
serves all cells.
"""

# mypy: disable-error-code="no-untyped-def, misc"
from __future__ import annotations

from typing import Any

from numba import typeof, types
from numba.core import cgutils, config, typing
from numba.core.errors import TypingError
from numba.extending import NativeValue, intrinsic, models, register_model, typeof_impl, unbox

__all__ = ["Pointer", "call", "pointer_to"]


class Pointer:
    """The address of a compiled function, and its signature."""

    __slots__ = ("address", "kind")

    def __init__(self, address: int, signature: typing.Signature) -> None:
        self.address = address
        self.kind = PointerType(signature)


class PointerType(types.Type):
    """Pointers to functions of one signature."""

    def __init__(self, signature: typing.Signature) -> None:
        self.signature = signature
        super().__init__(f"pointer_to({signature})")


@typeof_impl.register(Pointer)
def _typeof(value, context):
    return value.kind


@register_model(PointerType)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: PointerType) -> None:
        super().__init__(dmm, fe_type, dmm.lookup(types.intp).get_value_type())


@unbox(PointerType)
def _unbox(numba_type, value, context):
    address = context.pyapi.object_getattr_string(value, "address")
    number = context.pyapi.number_as_ssize_t(address)
    context.pyapi.decref(address)
    return NativeValue(number, is_error=cgutils.is_not_null(context.builder, context.pyapi.err_occurred()))


def pointer_to(kernel: Any, *arguments: Any) -> Any:
    """A pointer to the code of a kernel for arguments of these types; it is compiled if it has not been yet."""
    if config.DISABLE_JIT:
        return kernel
    given = tuple(typeof(argument) for argument in arguments)
    kernel.compile(given)
    compiled = kernel.overloads[given]
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return Pointer(address, compiled.signature)


@intrinsic
def call(typingctx, pointer, arguments):
    """The result of the function at an address.

    The arguments, a tuple, must be of the types that it was compiled for.
    """
    signature = pointer.signature
    # What is written as a number is of a type of its own.
    given = [types.unliteral(argument) for argument in arguments]
    wrong = [
        f"argument {number} must be of type {wanted}, got {found}"
        for number, (wanted, found) in enumerate(zip(signature.args, given, strict=True))
        if wanted != found
    ]
    if wrong:
        raise TypingError("; ".join(wrong))

    def codegen(context, builder, sig, args):
        function_type = context.call_conv.get_function_type(signature.return_type, signature.args)
        function = builder.inttoptr(args[0], function_type.as_pointer())
        status, result = context.call_conv.call_function(
            builder, function, signature.return_type, signature.args, cgutils.unpack_tuple(builder, args[1])
        )
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value() if signature.return_type == types.none else result

    return signature.return_type(pointer, arguments), codegen


def _call_itself(pointer, arguments):
    return pointer(*arguments)


if config.DISABLE_JIT:
    call = _call_itself  # type: ignore[assignment]
