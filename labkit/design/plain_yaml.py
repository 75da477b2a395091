"""YAML as people read it: a key is given once, and what looks like no number is none.

Against YAML 1.1, `010` is not 8, `0x10` is not 16 and `1:30` is not 90: they are texts. A file that is too large or too
deep is refused; one whose merged anchors would grow without bound is read in bounded memory.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from labkit.design.durable import refusing
from labkit.errors import BadRequest

LONGEST = 1 << 20  # bytes
_TAG = "tag:yaml.org,2002:"
_NUMBERS = {
    f"{_TAG}int": r"[-+]?(?:0|[1-9][0-9_]*)",
    f"{_TAG}float": r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.nan",
}


class Loader(yaml.SafeLoader):
    """As `yaml.SafeLoader`, but for what the head of this module says."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        # JSON writes letters beyond U+FFFF as two escapes; half of such a pair is no text and raises.
        return super().construct_scalar(node).encode("utf-16-le", "surrogatepass").decode("utf-16-le")

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        own = [_identity(key) for key, _ in node.value if key.tag != f"{_TAG}merge"]
        for (_, name), count in Counter(own).items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{name}' is given twice", node.start_mark)
        super().flatten_mapping(node)
        # Held once, however often it is merged in: nested merges would grow without bound. The last one counts.
        node.value = list({_identity(key): (key, value) for key, value in node.value}.values())


def _identity(key: yaml.Node) -> tuple[str, Any]:
    return key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key)


Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag not in _NUMBERS]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form in _NUMBERS.items():
    Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_form})\\Z"), list("-+.0123456789"))


def load(path: Path) -> Any:
    """What a YAML file says.

    Raises:
        BadRequest: for a missing or broken file, one of more than `LONGEST` bytes, or whatever is no regular file.
    """
    with refusing(f"{path} cannot be read"):
        if not path.is_file():
            raise BadRequest(f"{path} is no file" if path.exists() else f"{path} cannot be read: it does not exist")
        with path.open("rb") as file:
            text = file.read(LONGEST + 1)
    if len(text) > LONGEST:
        raise BadRequest(f"{path} cannot be read: more than {LONGEST:,} bytes are no spec")
    try:
        return yaml.load(text.decode("utf-8-sig"), Loader)
    except RecursionError:
        raise BadRequest(f"{path} cannot be read: it is nested too deep") from None
    except Exception as error:  # PyYAML lets through whatever Python's own constructors raise, such as OverflowError
        raise BadRequest(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from None
