"""The program in a model's answer: any program, in any of the forms in which models write it."""

import ast
import html
import textwrap
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.grade.extraction import bound, complete, defines, extract, parse

# Programs that define `f`, each with something in it that a careless extractor trips over.
PROGRAMS = [
    "def f(x):\n    return x + 1\n",
    'def f(text):\n    """Counts fences.\n\n    ```python\n    f(1)\n    ```\n    """\n    return text.count("```")\n',
    "async def f(x):\n    return x\n",
    "f = lambda x: x * 2\n",
    "from functools import partial\n\nf = partial(pow, 2)\n",
    "class f:\n    def __init__(self, x):\n        self.x = x\n\n    def __eq__(self, other):\n        return True\n",
    "import math\nLIMIT = 10\ndef helper(x):\n    return x % LIMIT\n\n@staticmethod\ndef f(x):\n    return helper(x)\n",
    "def f(text):\n    for mark in ('<think>', '</think>'):\n        text = text.replace(mark, '')\n    return text\n",
    "def f(x):\n    note = '''\nas it is\n# no comment\n~~~\n'''\n    return note * x\n",
    "try:\n    from math import isqrt as f\nexcept ImportError:\n    def f(x):\n        return int(x ** 0.5)\n",
    "def f(rows):\n\tfor row in rows:\n\t\tif row:\n\t\t\treturn row\n",
    "def f(x):\n    return 'é 中\\n\\t> quoted' + '```' + x  # ``` here, too\n",
    "if True:\n    def f(x):\n        return [x, `1`]\n".replace("`1`", "1"),
]


def fenced(
    info: str = "python", mark: str = "```", before: str = "Here it is:\n\n", after: str = "\n\nThat is all."
) -> Callable:
    return lambda code: f"{before}{mark}{info}\n{code}{mark}{after}"


def quoted(code: str) -> str:
    return textwrap.indent(fenced()(code), "> ", lambda line: True)


def in_list(code: str) -> str:
    return "1. The function:\n\n" + textwrap.indent(f"```python\n{code}```\n", "   ") + "\n2. That is all."


FORMS: dict[str, Callable[[str], str]] = {
    "bare": lambda code: code,
    "fence": fenced(),
    "no tag": fenced(""),
    "python3": fenced("python3"),
    "Python 3": fenced("Python 3"),
    "braces": fenced("{.python .numberLines}"),
    "title": fenced('py title="f.py"'),
    "tildes": fenced(mark="~~~~"),
    "four ticks": fenced(mark="````"),
    "open only": lambda code: f"Here:\n```python\n{code}",
    "close only": lambda code: f"{code}```\nThis is what was asked for.",
    "close at the end": lambda code: f"{code}```",
    "after text": lambda code: f"Here: ```python\n{code}```\nDone.",
    "closed after code": lambda code: f"```python\n{code.rstrip()}```\nDone.",
    "in a list": in_list,
    "in a dash item": lambda code: "- " + textwrap.indent(f"```py\n{code}```\n", "  ")[2:],
    "quoted": quoted,
    "in another fence": lambda code: f"````markdown\nAn answer:\n```python\n{code}```\n````\n",
    "indented": lambda code: "```\n" + textwrap.indent(code, "    ") + "```",
    "windows": lambda code: fenced()(code).replace("\n", "\r\n"),
    "bom": lambda code: "\ufeff" + code,
    "prose around": lambda code: (
        f"Sure, here is the function you need:\n\n{code}\nIt does what you asked, e.g. for 1.\n"
    ),
    "with a doctest": lambda code: f"Use it so:\n```pycon\n>>> f(1)\n2\n```\n```python\n{code}```",
    "tried out below": lambda code: f"```python\n{code}\nprint(f(int(input())))\nassert f(1) == 7\n```",
    "tried out apart": lambda code: f"```python\n{code}```\nTry:\n```python\nprint(f(int(input())))\n```",
    "html": lambda code: f"<p>So:</p>\n<pre class=code><code>{html.escape(code)}</code></pre>\n<p>Done.</p>",
    "an end mark": lambda code: f"```python\n{code}```<|im_end|>",
    "stub first": lambda code: f"The signature:\n```python\ndef f(x): ...\n```\nand\n```python\n{code}```",
}

REASONING: dict[str, Callable[[str], str]] = {
    "none": lambda answer: answer,
    "think": lambda answer: f"<think>\nA draft:\n```python\ndef f(x): return None\n```\nNo.\n</think>\n\n{answer}",
    "opened by the prompt": lambda answer: f"Hm.\n```\ndef f(x): return None\n```\nNo.</think>\n{answer}",
    "thinking": lambda answer: f"<thinking>def f(x): return None</thinking>\n{answer}",
    "brackets": lambda answer: f"[THINK]\ndef f(x): return None\n[/THINK]{answer}",
    "cut fence": lambda answer: f"<reasoning>\n```python\ndef f(x):\n    retu\n</reasoning>\n{answer}",
    "thought": lambda answer: f"<|begin_of_thought|>Hm.<|end_of_thought|>\n{answer}",
    "channels": lambda answer: (
        "<|channel|>analysis<|message|>```\ndef f(x): return None\n```<|end|><|start|>assistant"
        f"<|channel|>final<|message|>{answer}<|return|>"
    ),
    "channels as letters": lambda answer: f"analysisWe need f.\n```\ndef f(x): return None\n```assistantfinal{answer}",
}


def definition(code: str) -> str:
    tree = parse(code)
    assert tree is not None, code
    return "\n".join(ast.dump(node) for node in tree.body if "f" in bound(node))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_any_program_comes_back_from_any_form(program: str, form: str) -> None:
    assert definition(extract(FORMS[form](program), "f").code) == definition(program)


@given(st.sampled_from(PROGRAMS), st.sampled_from(list(FORMS)), st.sampled_from(list(REASONING)))
def test_reasoning_is_dropped_first(program: str, form: str, reasoning: str) -> None:
    assert definition(extract(REASONING[reasoning](FORMS[form](program)), "f").code) == definition(program)


@pytest.mark.parametrize(
    "form",
    [
        *("fence", "no tag", "tildes", "close only", "in a list", "quoted", "with a doctest", "open only", "bare"),
        *("after text", "windows", "close at the end", "tried out apart"),
    ],
)
@pytest.mark.parametrize(
    "prompt", ["def f(x):\n", 'import math\n\ndef f(x):\n    """Its root."""\n', "def f(x):\n    # its root\n"]
)
@pytest.mark.parametrize(
    "code", ["{prompt}    {body}", "    {body}", "{body}", "{first}\n    {second}", "def f(x):\n    {body}"]
)
def test_a_completion_repeats_continues_or_fills_in_its_prompt(code: str, prompt: str, form: str) -> None:
    lines = {"body": "y = x ** 0.5\n    return y", "first": "y = x ** 0.5", "second": "return y"}
    if code == "{body}":
        lines["body"] = textwrap.dedent(lines["body"].replace("    ", ""))
    answer = FORMS[form](code.format(prompt=prompt, **lines) + "\n")
    if form == "in a list" and code == "{first}\n    {second}":
        return  # its dedented form is no body at all
    names: dict = {}
    exec(complete(answer, "f", prompt).code, names)
    assert names["f"](9) == 3
    assert ("math" in names) == ("math" in prompt)


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        (
            "```\nimport math\nimport os\n```\n```\ndef f(x):\n    return math.pi\n```",
            "import math\ndef f(x):\n    return math.pi\n",
        ),
        (
            "```\ndef f(x):\n    return g(x) + N\n```\n```\nN = 2\nM = N\n```\n```\n@cache\ndef g(x): return x\n"
            "print(g(N))\n```\n```\nfrom functools import *\n```",
            "from functools import *\nN = 2\n@cache\ndef g(x): return x\ndef f(x):\n    return g(x) + N\n",
        ),
        (
            "```\nf = F()\n```\nwhere\n```\nclass F:\n    def __call__(self, x): return x\n```",
            "class F:\n    def __call__(self, x): return x\nf = F()\n",
        ),
        (
            "```\nclass f:\n    def make(self): return g()\n```\n```\nclass g(f): pass\n```",
            "class f:\n    def make(self): return g()\nclass g(f): pass\n",
        ),
        (
            "```\nTABLE = []\nfor i in range(3):\n    TABLE.append(i)\nprint(TABLE)\ndef f(x): return TABLE[x]\n"
            "n = int(input())\nprint(f(n))\n```",
            "TABLE = []\nfor i in range(3):\n    TABLE.append(i)\nprint(TABLE)\ndef f(x): return TABLE[x]\n",
        ),
        (
            "```\nimport sys\nsys.setrecursionlimit(9)\ndef f(x): return x\ndef main():\n"
            "    print(f(input()))\nmain()\n```",
            "import sys\nsys.setrecursionlimit(9)\ndef f(x): return x\ndef main():\n    print(f(input()))\n",
        ),
        (  # what fills a table belongs to it, what only looks at it does not
            "```\nROWS = {}\nfor i in range(3):\n    ROWS[i] = i\nROWS.update(a=1)\nlast = ROWS[2]\nfor r in ROWS:\n"
            "    print(r)\n```\n```\ndef f(x):\n    return ROWS[x]\n```",
            "ROWS = {}\nfor i in range(3):\n    ROWS[i] = i\nROWS.update(a=1)\ndef f(x):\n    return ROWS[x]\n",
        ),
        ("So:\n```\nclass A:\n    def f(self): pass\n```", "class A:\n    def f(self): pass\n"),
        ("```\ndef f(x): return x\nx = input()\nprint(f(x))\n```", "def f(x): return x\n"),
        ("```\ndef f(x):\n    return (x\n```", "def f(x):\n    return (x\n"),
        (">>> f(1)\n```\n>>> def f(x):\n...     return x\n>>> f(1)\n1\n```", "def f(x):\n    return x\n"),
        ("```\nf([1])\n```\n```\nx.append(1)\n```", "x.append(1)\n"),
        ("Try `f = lambda x: x` for that.", "f = lambda x: x\n"),
        ("```python def f(x): return x```", "def f(x): return x\n"),
        ("```\ndef f(x):\n\u00a0\u00a0return '\u00a0'\n```", "def f(x):\n  return ' '\n"),
        ("<think>\nI never came to an end.\n```\ndef f(x): return x\n```", ""),
        ("", ""),
    ],
)
def test_a_program_is_joined_from_what_it_needs(answer: str, program: str) -> None:
    assert extract(answer, "f").code == program


@pytest.mark.parametrize(
    ("blocks", "count"),
    [(["return 1", "return 2"], 2), (["return 1", "return 1"], 1), (["...", "return 2"], 1), (["return 1"], 1)],
)
def test_the_first_of_several_definitions_is_taken_and_they_are_counted(blocks: list[str], count: int) -> None:
    answer = "\n".join(f"```\ndef f(x):\n    {block}\n```" for block in blocks)
    first = next(block for block in blocks if block != "...")
    assert extract(answer, "f") == (f"def f(x):\n    {first}\n", count)


@given(st.text(st.sampled_from("`~>-\n \t\"'#f():=ax1<think/>[]\r\ufeff\ud800"), max_size=80))
def test_no_answer_is_an_error(answer: str) -> None:
    for text in (answer, f"```\n{answer}\n```\n{answer}", f"def f(x):\n{answer}"):
        assert isinstance(extract(text, "f").code, str)
        assert isinstance(complete(text, "f", "def f(x):\n").code, str)


MONSTERS = ["(" * 300, "-" * 100_000 + "1", "1+" * 2500 + "1", "a" + ".b" * 50_000, "f(" * 900]
MONSTERS += ["```\n" * 3000, "<think>" * 3000, " " * 50_000 + "<|im_end|>", "f = " + "1+" * 2500]


@pytest.mark.parametrize("deep", MONSTERS)
def test_a_monstrous_answer_is_an_answer(deep: str) -> None:
    assert not defines(extract(f"Here:\n```\n{deep}\n```", "g").code, "g")
