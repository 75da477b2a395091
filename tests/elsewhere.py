"""A second device without a second device: tensors that say they are on `meta`, and hold real numbers all the same.

`Elsewhere` is a mode. Inside, whatever is made on or moved to `meta` is such a tensor, so that losses, comparisons and
answers are real, too. An operation on tensors of both devices is refused, as a GPU would; what CUDA allows is allowed:
numbers (tensors without dimensions) of the CPU, indices of the CPU, and copies. `meta`, because torch that was built
without CUDA has no gradients of tensors that say `cuda`.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map

AWAY = torch.device("meta")
CROSSING = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default,
            torch.ops.aten._index_put_impl_.default}  # fmt: skip


class MixedDevices(AssertionError):
    """An operation that a GPU would refuse."""


class Away(torch.Tensor):
    """A tensor of the second device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Away":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=AWAY, requires_grad=inner.requires_grad,
        )  # fmt: skip
        made.inner = inner
        return made

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"Away({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(function, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """See the module; inside `Seen`."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(function, args, kwargs or {})


class Seen(TorchFunctionMode):
    """What torch does out of the sight of `Elsewhere`: tensors made of numbers, and data that are exchanged."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.tensor and (device := kwargs.pop("device", None)) is not None:
            return function(*args, **kwargs).to(device)
        done = function(*args, **kwargs)
        if function == torch.Tensor.data.__set__ and isinstance(args[0], Away):
            args[0].inner = args[1].inner
        return done


def dispatch(function: Any, args: Any, kwargs: Any) -> Any:
    tensors = [t for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)]
    away = any(isinstance(t, Away) for t in tensors)
    home = [t for t in tensors if not isinstance(t, Away) and t.dim() > 0]
    if function in INDEXING:
        home = [t for t in home if t is args[0]]
    if away and home and function not in CROSSING:
        raise MixedDevices(f"{function} on tensors of both devices: {[tuple(t.shape) for t in tensors]}")
    asked = kwargs.get("device")
    if asked is not None:
        away = torch.device(asked) == AWAY
    elif function is torch.ops.aten.copy_.default:
        away = isinstance(args[0], Away)
    strange = [t for t in home if t.is_meta]
    assert not strange, f"{function}: a tensor came to the second device unseen"
    plain_args, plain = tree_map(lambda t: t.inner if isinstance(t, Away) else t, (args, kwargs))
    if asked is not None:
        plain["device"] = torch.device("cpu")
    plain.pop("pin_memory", None)
    out = function(*plain_args, **plain)
    if not away:
        return out
    wrapped = tree_map(lambda t: Away(t) if isinstance(t, torch.Tensor) else t, out)
    return return_and_correct_aliasing(function, args, kwargs, wrapped)
