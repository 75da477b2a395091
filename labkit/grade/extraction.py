"""The program in a model's answer: the one extractor of the lab.

Reasoning is dropped first. What is left is cut into pieces: fenced blocks (in lists, in quotations, nested, of any
mark and length, with one end missing), and between them the runs of lines that parse. The program is the first piece
that defines the entry point and is more than a stub; fenced pieces go first. It is joined by the imports, helpers and
constants of other pieces that it needs, and only by these. Its own statements that show or try it out (`print`,
`input`, asserts, calls of the entry point at the top level) are left out, as EvalPlus' sanitiser does.

Guaranteed: the definition of the entry point is the model's own, never repaired; nothing is run here. Where no piece
defines it, a piece that is a function's body is taken, else the first block, else the answer as it is.

Left open: which of several different definitions the model meant (`definitions` counts them; the first is taken), and
reasoning without any mark.
"""

import ast
import builtins
import html
import re
import symtable
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate, takewhile
from os.path import commonprefix
from typing import NamedTuple

from labkit.instructions.reasoning import MARK, final_channel, outside_reasoning

LONGEST = 1 << 20  # characters that are parsed; a longer text is no program of a model
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
DEFINITIONS = (*SCOPES[:3], ast.Import, ast.ImportFrom)
ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError)  # of a text that does not compile


class Extracted(NamedTuple):
    """`definitions` counts the blocks that define the entry point differently; the first of them is in `code`.

    It is 0 where there is no definition that could be taken.
    """

    code: str
    definitions: int


class Piece(NamedTuple):
    """A block of an answer; `tree` is None where it does not parse."""

    text: str
    tree: ast.Module | None
    fenced: bool


def extract(answer: str, entry_point: str = "", wanted: Collection[str] = ()) -> Extracted:
    """The program in an answer, and how many there were to choose from; `wanted` names more than the entry point.

    >>> extract("First\\n```\\nimport math\\n```\\nthen\\n```py\\ndef f(x):\\n    return math.pi\\n```", "f").code
    'import math\\ndef f(x):\\n    return math.pi\\n'
    """
    text = _lines_alike(answer)
    if entry_point in bound(parse(text)):  # a program may hold the marks of fences and of reasoning in its strings
        return Extracted(_without_use(text, entry_point), 1)
    text = _answered(text)
    pieces = list(_pieces(text, entry_point))
    defining = [piece for piece in pieces if entry_point in bound(piece.tree)]
    whole = [piece for piece in defining if not _is_stub(piece, entry_point)]
    first = next(iter([piece for piece in whole if piece.fenced] or whole or defining), None)
    if first is None:
        return Extracted(_undefined(text, pieces, entry_point), 0)
    different = {piece.text.strip() for piece in whole if piece.fenced == first.fenced}
    return Extracted(_joined(first, pieces, entry_point, wanted), max(len(different), 1))


def complete(answer: str, entry_point: str, prompt: str, suffix: str = "", wanted: Collection[str] = ()) -> Extracted:
    """The program of an answer to a prompt that it repeats, continues or fills in: prompt and suffix are part of it."""
    text = _answered(_lines_alike(answer))
    found = extract(answer, entry_point, wanted)
    if defines(found.code, entry_point):
        rest = suffix if compiles(found.code + suffix) else ""
        return found._replace(code=future_first(above(prompt, entry_point) + found.code + rest))
    # The prompt may have opened the fence: then the body stands before the first.
    opened = re.split(r"^[ \t]*(?:`{3,}|~{3,})", text, maxsplit=1, flags=re.MULTILINE)[0]
    bodies = [opened, found.code] if CODE.match(opened.strip()) else [found.code]
    program = next((text for body in bodies for text in _continued(prompt, body, suffix) if compiles(text)), None)
    return Extracted(prompt + found.code + suffix if program is None else program, int(program is not None))


def _continued(prompt: str, code: str, suffix: str) -> Iterator[str]:
    """The prompt with a body: as it is, without the indentation of its first line, or of all."""
    bare, forms = dedent(code).strip("\n"), [code] if code[:1].isspace() or not code else []
    forms += [form for unit in ("    ", "\t", "  ") for form in (unit + code, textwrap.indent(bare, unit) + "\n")]
    yield from (prompt + lead + form + suffix for form in forms for lead in ("", "\n"))
    yield prompt + code + suffix


def above(prompt: str, entry_point: str) -> str:
    """What a prompt holds above its entry point, decorators left out; nothing where it does not define it."""
    heads = list(re.finditer(rf"^(?:async\s+def|def|class)\s+{re.escape(entry_point)}\b", prompt, re.MULTILINE))
    if not heads:
        return prompt if parse(prompt) else ""
    return re.sub(r"(?:^@.*\n)+\Z", "", prompt[: heads[-1].start()], flags=re.MULTILINE)


def parse(text: str, *, compiled: bool = False) -> ast.Module | None:
    """`tree_of` a text; None where there is none. Every failure of the parser counts, also on what is nested deeply."""
    with suppress(*ERRORS):
        return tree_of(text, compiled=compiled) if len(text) <= LONGEST else None
    return None


def compiles(text: str) -> bool:
    """Is it a program? The parser takes a `return` outside a function, the compiler does not."""
    return parse(text, compiled=True) is not None


def tree_of(text: str, *, compiled: bool = False) -> ast.Module:
    """The syntax tree, tried by the compiler, too, where `compiled`; no warnings, but any of `ERRORS`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text)
        if compiled:
            compile(tree, "<answer>", "exec", dont_inherit=True)
    return tree


def bound(tree: ast.AST | None) -> set[str]:
    """The names that a program binds at its top level, in whatever way."""
    names, todo = set[str](), [tree] if tree else []
    while todo:  # a loop: trees may be deeper than Python's stack
        node = todo.pop()
        if isinstance(node, SCOPES):
            names |= {node.name} if not isinstance(node, ast.Lambda) else set()
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name):
            names |= {node.id} if isinstance(node.ctx, ast.Store) else set()
        elif not isinstance(node, ast.comprehension) and not (isinstance(node, ast.AnnAssign) and node.value is None):
            todo += ast.iter_child_nodes(node)
    return names


def defines(text: str, name: str) -> bool:
    """Does a program define the name? Where it does not parse, a line that looks so decides."""
    tree = parse(text)
    return name in bound(tree) if tree else bool(name) and bool(_head(name).search(text))


def future_first(text: str) -> str:
    """Python wants imports from `__future__` above all others."""
    future = re.findall(r"^from __future__ import .*\n?", text, re.MULTILINE)
    if not future or compiles(text):
        return text
    moved = "".join(future) + re.sub(r"^from __future__ import .*\n?", "", text, flags=re.MULTILINE)
    return moved if compiles(moved) else text


def _head(name: str) -> re.Pattern[str]:
    word = re.escape(name)
    return re.compile(rf"^[ \t>]*(?:(?:async[ \t]+def|def|class)[ \t]+{word}\b|{word}[ \t]*=)", re.MULTILINE)


# Reasoning


END_MARK = re.compile(r"(?:<\|\w+\|>|</s>|<｜[^｜\n]+｜>|<end_of_turn>)\Z")

HTML = re.compile(r"<pre\b[^<>]*>\s*(?:<code\b[^<>]*>)?(.*?)(?:</code>\s*)?</pre>", re.DOTALL | re.IGNORECASE)


def _answered(text: str) -> str:
    """An answer without its reasoning and the marks at its end; what a fenced program holds is the program's."""
    text = final_channel(text)
    text = re.sub(r"^\ufeff+", "", outside_reasoning(text, _spoken(text)), flags=re.MULTILINE)
    while end := END_MARK.search(text.rstrip()):
        text = text[: end.start()]
    before = re.split("<pre", text, maxsplit=1, flags=re.IGNORECASE)[0]
    if re.search(r"^[ \t>]*(?:`{3}|~{3})", before, re.MULTILINE):
        return text
    return HTML.sub(lambda block: f"\n{'~' * 9}\n{html.unescape(block[1])}\n{'~' * 9}\n", text)


def _spoken(text: str) -> Callable[[re.Match[str]], bool]:
    """Is a mark in a program, or talked about: in the middle of a line, with nothing that closes it?"""
    marks = list(MARK.finditer(text))
    lines = text.split("\n") if marks else []
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    programs = [(starts[b.start], starts[b.end]) for b in _blocks(lines) if parse(dedent(b.text))]
    last = max((mark.start() for mark in marks if not mark["opening"]), default=-1)

    def own(mark: re.Match[str]) -> bool:
        line = text[: mark.start()].rpartition("\n")[2]
        talked = mark["opening"] and line.strip(" \t>") and mark.start() > last
        return bool(talked) or any(start < mark.start() < end for start, end in programs)

    return own


# Fences


class Block(NamedTuple):
    """A fenced block: from line `start` to before line `end`, its text without what the fence stands in."""

    start: int
    end: int
    text: str
    info: str


FENCE = re.compile(r"(?P<lead>(?:[^`~\n]|`[^`\n]+`)*?)(?P<ticks>`{3,}|~{3,})(?P<info>[^`\n]*)")
CONTAINER = re.compile(r"[ \t]*(?:(?:[-*+•]|\d+[.)])[ \t]+|>[ \t]*)*")
TAG = re.compile(r"\s*[\w+.#{}:=-]*\s*")
INLINE = re.compile(r"(?<!`)(`+)(?!`)([^\n]+?)(?<!`)\1(?!`)")
SPACES, NOTHING = "\u00a0\u2002\u2003\u2007\u2009\u202f\u3000", "\u200b\u2060\ufeff"  # that are in no program
BLANKS = str.maketrans(SPACES, " " * len(SPACES), NOTHING)
CLOSINGS = 50  # that are tried for a block whose strings hold fences


def _blocks(lines: Sequence[str]) -> Iterator[Block]:
    at = reach = 0  # `reach`: to where the program that stands before a fence reaches, with the fences in its strings
    while at < len(lines):
        if at >= reach and HEAD.match(lines[at]):
            reach = at + _parsing(lines[at:])
        fence = FENCE.fullmatch(lines[at]) if at >= reach else None
        if fence and (CONTAINER.fullmatch(fence["lead"]) or TAG.fullmatch(fence["info"])):
            yield (block := _block(lines, at, fence))
            at = block.end
        else:
            at += 1


def _block(lines: Sequence[str], at: int, fence: re.Match[str]) -> Block:
    """The block that a fence opens: to the first closing fence that is in no string, else the first, else the end."""
    ticks = re.compile(rf"(?P<code>.*?){fence['ticks'][0]}{{{len(fence['ticks'])},}}(?P<after>[^`~]*)")
    inner, closings, tries = list[str](), list[int](), 0
    for line in (_inside(line, fence["lead"]) for line in lines[at + 1 :]):
        if (closing := ticks.fullmatch(line)) and tries < CLOSINGS:
            tries += 1
            code, after = closing["code"].strip(), closing["after"].strip()
            before = [*inner, closing["code"]] if code else inner
            text = dedent("\n".join(before))
            if not code and not after and not closings and not _in_string(text):
                return Block(at, at + len(inner) + 2, _ended(before), fence["info"])
            if "#" not in code and text.strip() and parse(text):
                # A fence with a tag opens the next block: the one that should have closed this is missing.
                reopens = after and TAG.fullmatch(after)
                return Block(at, at + len(inner) + (1 if reopens else 2), _ended(before), fence["info"])
            closings += [] if code or after else [len(inner)]
        inner.append(line)
    if closings and not parse(dedent("\n".join(inner))):
        return Block(at, at + closings[0] + 2, _ended(inner[: closings[0]]), fence["info"])
    return Block(at, len(lines), "\n".join(inner), fence["info"])


def _ended(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _inside(line: str, lead: str) -> str:
    """A line without the quotation marks and the indentation of the list that its fence stands in."""
    if not CONTAINER.fullmatch(lead):
        return line
    if quoted := lead.count(">"):
        line = re.sub(rf"^[ \t]*(?:>[ ]?){{1,{quoted}}}", "", line)
        lead = lead.rpartition(">")[2].removeprefix(" ")
    blanks = "\t " if "\t" in lead else " "
    return re.sub(rf"^[{blanks}]{{0,{len(lead)}}}", "", line)


def _in_string(text: str) -> bool:
    """Does a text end inside a string of several lines?"""
    try:
        return not tree_of(text)
    except ERRORS as error:
        return "unterminated triple-quoted" in str(error)


def dedent(text: str) -> str:
    """`textwrap.dedent` that leaves lines of blanks, which may be a string's, as they are."""
    lines = text.split("\n")
    margins = [line[: len(line) - len(line.lstrip(" \t"))] for line in lines if line.strip()]
    margin = commonprefix(margins)  # noqa: RUF071 (these are no paths)
    return "\n".join(line.removeprefix(margin) for line in lines)


# Pieces


HEAD = re.compile(r"(?:async|def|class|if|for|while|try|with|match)\b|@")
CODE = re.compile(
    r"[@#]|(?:async|def|class|import|from|if|for|while|try|with|match|return|yield|global|nonlocal|raise|assert|pass)\b"
    r"|\w[\w.,\[\] *]*(?::[^=\n]+)?[-+*/%&|^@]?=(?!=)|\w[\w.]*\(|[rRbBfFuU]?(?:\"\"\"|\'\'\')"
)


def _pieces(text: str, entry_point: str, depth: int = 3) -> Iterator[Piece]:
    """The blocks of an answer, and between them the runs of lines that parse, in order."""
    lines, at = text.split("\n"), 0
    for block in _blocks(lines):
        yield from _loose(lines[at : block.start], entry_point)
        yield from _read(block, entry_point, depth)
        at = block.end
    yield from _loose(lines[at:], entry_point)


def _read(block: Block, entry_point: str, depth: int) -> Iterator[Piece]:
    """A block as the first of its readings that defines the entry point, else that parses; else what parses in it."""
    content = block.text
    rest = block.info.strip().partition(" ")[2]
    texts = [content, *(f"{line}\n{content}" for line in (block.info.strip(), rest) if line)]
    forms = [form for text in texts for blank in (text, text.translate(BLANKS)) for form in (blank, dedent(blank))]
    parsed = [Piece(form, tree, True) for form in dict.fromkeys(forms) if (tree := parse(form))]
    # A function that was written in a session of the interpreter.
    session = "".join(line[4:] + "\n" for line in content.split("\n") if line.startswith((">>> ", "... ")))
    if entry_point in bound(tree := parse(session)):
        parsed.append(Piece(session, tree, True))
    best = next((piece for piece in parsed if entry_point in bound(piece.tree)), next(iter(parsed), None))
    yield best or Piece(content, None, True)
    if best is None and depth:
        nested = any(FENCE.fullmatch(line) for line in content.split("\n"))
        yield from _pieces(content, entry_point, depth - 1) if nested else _loose(content.split("\n"), entry_point)


def _loose(lines: Sequence[str], entry_point: str) -> Iterator[Piece]:
    """The programs that stand in prose: runs of lines, and what stands between ticks in a line."""
    text = "\n".join(lines)
    for form in dict.fromkeys((text, text.translate(BLANKS))):
        runs = [(run, parse(run)) for run in _runs(form.split("\n"))]
        if form is text or any(entry_point in bound(tree) for _, tree in runs):
            yield from (Piece(run, tree, False) for run, tree in runs)
    for _, code in INLINE.findall(text):
        for form in (code, code.partition(" ")[2]):
            if entry_point in bound(tree := parse(form)):
                yield Piece(form + "\n", tree, False)


def _runs(lines: Sequence[str]) -> Iterator[str]:
    at = 0
    while at < len(lines):
        margin = lines[at][: len(lines[at]) - len(lines[at].lstrip(" \t"))]
        if not CODE.match(lines[at], len(margin)):
            at += 1
            continue
        own = takewhile(lambda line: not line.strip() or line.startswith(margin), lines[at:])  # noqa: B023
        run = [line.removeprefix(margin) for line in own]
        if length := _parsing(run):
            yield _ended(run[:length])
        elif HEAD.match(run[0]):  # what a broken definition holds is no program of its own
            length = next((n for n in range(1, len(run)) if _top(run[n])), len(run))
        at += length or 1


def _parsing(run: Sequence[str]) -> int:
    """How many lines parse, up to the statement at the top level in which the first error is."""
    length = len(run)
    while length:
        text = "\n".join(run[:length])
        try:
            tree_of(text[:LONGEST])
            return length
        except SyntaxError as error:
            length = min(error.lineno or 1, length) - 1
            while length and not _top(run[length]):
                length -= 1
        except ERRORS:
            return 0
    return 0


def _top(line: str) -> bool:
    return bool(line.strip()) and not line[0].isspace()


def _undefined(text: str, pieces: Sequence[Piece], entry_point: str) -> str:
    """What to take where no piece defines the entry point: what was to define it, a body, a block, everything."""
    fenced = [piece for piece in pieces if piece.fenced]
    if entry_point:
        broken = [piece.text for piece in fenced if not piece.tree and _head(entry_point).search(piece.text)]
        inside = any(_head(entry_point).search(piece.text) for piece in pieces if piece.tree)  # as a method
        if broken or (_head(entry_point).search(text) and not inside):
            return next(iter(broken), text)
        if body := next(filter(_is_body, [*fenced, *pieces]), None):
            return body.text
    shown = [p for p in fenced if p.tree and all(_is_use(node, {entry_point}) for node in p.tree.body)]
    blocks = [p for p in fenced if p not in shown]
    return next((piece.text for piece in [*(p for p in blocks if p.tree), *blocks, *fenced]), text)


def _is_body(piece: Piece) -> bool:
    """Does it return or yield? Stripping may have taken the indentation of its first line."""
    tree = piece.tree or parse(f"if True:\n    {piece.text}")
    inner = [node for statement in tree.body for node in _own(statement)] if tree else []
    return any(isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) for node in inner)


def _own(statement: ast.AST) -> Iterator[ast.AST]:
    """A statement's nodes, without those of the functions and classes in it."""
    todo = [statement]
    while todo:
        yield (node := todo.pop())
        todo += [] if isinstance(node, SCOPES) else ast.iter_child_nodes(node)


def _is_stub(piece: Piece, entry_point: str) -> bool:
    """Does a piece give the entry point's signature alone, with no body or an ellipsis for it?"""
    nodes = [node for node in piece.tree.body if entry_point in bound(node)] if piece.tree else []
    return all(isinstance(node, SCOPES) and all(map(_is_empty, node.body)) for node in nodes)


def _is_empty(node: ast.stmt) -> bool:
    refuses = isinstance(node, ast.Raise) and any(getattr(n, "id", "") == "NotImplementedError" for n in ast.walk(node))
    says = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Pass) or refuses or says


# What a program needs, and what it does without


# Calls at the top level that show a program, or wait for a person.
RUNS = {"print", "input", "exit", "quit", "breakpoint", "sys.exit", "doctest.testmod", "unittest.main"}


def _joined(main: Piece, pieces: Sequence[Piece], entry_point: str, also: Collection[str]) -> str:
    """The program with the imports and definitions of other pieces that it needs, in their order."""
    text = _without_use(main.text, entry_point)
    own, seen, later = bound(parse(text)), set[str](), pieces.index(main)
    wanted, sources = free(text) | set(also) - own, dict[tuple[bool, bool, int, int], str]()
    while wanted - seen:
        seen.add(name := min(wanted - seen))
        for place, source in _giving(name, main, pieces, entry_point):
            # What is made of the program's own names when it is read cannot stand above them.
            after = place[0] > later and not own.isdisjoint(free(source, eager=True))
            sources[after, not re.match(r"(?:from|import)\b", source), *place] = source
            wanted |= free(source)
    above, below = ("".join(sources[n] for n in sorted(sources) if n[0] is after) for after in (False, True))
    end = "" if text.endswith("\n") or not below else "\n"
    return future_first(above + text + end + below)


def _giving(name: str, main: Piece, pieces: Sequence[Piece], entry_point: str) -> Iterator[tuple[tuple[int, int], str]]:
    """(place, source) of the statements that bind a name in the first other piece that does, and of star imports."""
    for number, piece in enumerate(pieces):
        statements = piece.tree.body if piece.tree and piece is not main else []
        given = [node for node in statements if name in bound(node) and not _is_use(node, {entry_point})]
        filling = [node for node in statements if _fills(node, name) and not _is_use(node, {entry_point})]
        for node in [*given, *filling] if given else [node for node in statements if "*" in bound(node)]:
            yield (number, node.lineno), _source(piece.text, node)
        if given:
            return


def _fills(node: ast.stmt, name: str) -> bool:
    """Does a statement at the top level put something into what the name holds (`table[1] = 2`, `rows.append(1)`)?"""
    if isinstance(node, DEFINITIONS) or name in bound(node):
        return False
    done = [n.value.func for n in _own(node) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)]
    places = [n for n in _own(node) if isinstance(n, ast.Subscript | ast.Attribute)]
    changed = [n.value for n in places if n in done or not isinstance(n.ctx, ast.Load)]
    return any(isinstance(value, ast.Name) and value.id == name for value in changed)


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])


def _source(text: str, node: ast.stmt) -> str:
    """The whole lines of a statement, its decorators included."""
    return "".join(line + "\n" for line in text.split("\n")[_first_line(node) - 1 : node.end_lineno])


@lru_cache(1000)
def free(text: str, *, eager: bool = False) -> frozenset[str]:
    """The names that a program uses and does not bind; `eager`: only those that it uses while it is being read."""
    try:
        tables = [symtable.symtable(text, "<answer>", "exec")]
    except ERRORS:
        return frozenset()
    used, given = set[str](), bound(parse(text)) | set(dir(builtins))
    while tables:
        table = tables.pop()
        tables += [child for child in table.get_children() if not (eager and child.get_type() == "function")]
        inner = table.get_type() != "module"
        used |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (s.is_global() or not inner)}
    return frozenset(used - given)


def _without_use(text: str, entry_point: str) -> str:
    """A program without the statements at its top level that show it or try it out; what it needs stays."""
    tree = parse(text)
    if tree is None:
        return text
    needed, trying, gone = _needed(entry_point, tree.body), _trying(entry_point, tree.body), set[str]()
    variables = needed - {entry_point} - set().union(*(bound(n) for n in tree.body if isinstance(n, DEFINITIONS)))
    kept, dropped = set[int](), set[int]()
    for node in tree.body:
        stays = isinstance(node, DEFINITIONS) or bound(node) & needed or _loaded(node) & variables
        is_use = not stays and (_is_use(node, trying) or bool(_loaded(node) & gone))
        gone = gone | bound(node) if is_use else gone - bound(node)
        (dropped if is_use else kept).update(range(_first_line(node), (node.end_lineno or 0) + 1))
    lines = enumerate(text.split("\n"), 1)
    return "\n".join(line for row, line in lines if row not in dropped - kept)


def _needed(entry_point: str, body: Sequence[ast.stmt]) -> set[str]:
    """The names that the entry point needs, through whatever binds them."""
    needed, todo = set[str](), {entry_point}
    while todo:
        needed.add(name := todo.pop())
        todo |= set().union(*(_used(node) for node in body if name in bound(node))) - needed
    return needed


def _trying(entry_point: str, body: Sequence[ast.stmt]) -> set[str]:
    """The entry point and the functions that call it or wait for a person: to call them at the top level is use."""
    trying, before = {entry_point, "input"}, set[str]()
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    while trying != before:
        before = set(trying)
        trying |= {node.name for node in functions if trying & _loaded(node)}
    return trying


def _is_use(node: ast.stmt, trying: set[str]) -> bool:
    if isinstance(node, DEFINITIONS):
        return False
    if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call | ast.Await | ast.Constant):
        return True  # a word of prose that parses
    if isinstance(node, ast.Assert) or (isinstance(node, ast.AnnAssign) and node.value is None):
        return True
    calls = {_dotted(n.func) for n in _own(node) if isinstance(n, ast.Call)}
    return bool(calls & (RUNS | trying)) or any(call.startswith("sys.stdin") for call in calls)


def _dotted(node: ast.expr) -> str:
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "", *reversed(names)])


def _used(node: ast.stmt) -> frozenset[str]:
    """The names of the program that a statement uses: of a function, not its own variables."""
    with suppress(*ERRORS):
        return free(ast.unparse(node))
    return frozenset()


def _loaded(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _lines_alike(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
