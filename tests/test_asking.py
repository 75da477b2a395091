"""What a page's own JavaScript computes equals what labkit computes: answers, runs of rules, grades by kind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Browser, chromium, opened

from labkit import BadRequest, learn
from labkit.instructions import Rule, markov
from labkit.instructions.kinds import KINDS, PLAIN, Question, draw_kind, kinds_of
from labkit.learn import Learner
from labkit.learn.checkpoint import build
from labkit.learn.transformer import Shape
from labkit.show import asking

LETTERS = "abcdef"
CLOSE = 1e-3  # scores that lie closer may come in either order, by rounding


def random_learner(expansion: int, seed: int) -> Learner:
    """A model of random weights: a fresh one finds all letters equally likely."""
    layout = learn.Layout(LETTERS, (2, 2, 6), 6, names=asking.NAMES)
    shape = Shape(len(layout.vocabulary), layout.length, layers=2, width=12, heads=2, expansion=expansion)
    model = build("fast", shape, seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.7)
    return Learner(model, "fast", shape, layout)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An empty page that has the scripts."""
    chromium()
    folder = tmp_path_factory.mktemp("asking")
    (folder / "page.html").write_text(
        f"<html><body><script>{asking.script('draw', 'model', 'ask')}</script></body></html>"
    )
    (folder / "profile").mkdir()
    with opened(f"file://{folder / 'page.html'}", folder / "profile") as browser:
        browser.wait("typeof smallModel === 'function'")
        yield browser


def in_page(page: Browser, function: str, *given: Any) -> Any:
    return json.loads(page.js(f"JSON.stringify(({function})({', '.join(map(json.dumps, given))}))"))


@pytest.mark.parametrize("expansion", [0, 2])
def test_answers_equal_learn_ask(page: Browser, expansion: int) -> None:
    learner, rng = random_learner(expansion, 1), np.random.default_rng(2)
    asked = [["".join(rng.choice(list(LETTERS), n)) for n in (2, 2, 6)] for _ in range(1000)]
    model = asking.portable(learner)
    ask = "(made, asked, m = smallModel(made.about, made.weights)) => asked.map((q) => m.answer(q).answer)"
    theirs = in_page(page, ask, model, asked)
    ours = [learn.ask(learner, Rule(x, y), z).answer for x, y, z in asked]
    assert len(set(ours)) > 100  # a model that always says the same would show nothing
    different = [i for i in range(1000) if ours[i] != theirs[i]]
    assert all(undecided(learner, asked[i], ours[i], theirs[i]) for i in different)


def undecided(learner: Learner, question: list[str], one: str, other: str) -> bool:
    """Whether the first letter in which two answers differ was chosen among scores that are equal up to rounding."""
    data = learner.layout.encode([question], [one])  # type: ignore[call-overload, arg-type]
    with torch.inference_mode():
        scores = learner.model(torch.from_numpy(data.tokens).long()[None, :, :-1], data.answer_length)[0, 0]
    place = next(i for i in range(len(one)) if one[i] != other[i])
    first, second = (scores[place, data.vocabulary.index(text[place])] for text in (one, other))
    return abs(float(first - second)) < CLOSE


def test_a_head_that_is_switched_off_gives_nothing(page: Browser) -> None:
    learner = random_learner(0, 3)
    model, question = asking.portable(learner), ["ab", "cd", "aabbab"]
    ask = "(model, q, off) => smallModel(model.about, model.weights).answer(q, {off: new Set(off)})"
    whole = in_page(page, ask, model, question, [])
    shares = np.array(whole["looks"][-1][0])  # [heads, places] of the first layer
    assert shares.shape == (2, learner.layout.length - 1)
    np.testing.assert_allclose(shares.sum(1), 1)
    with torch.no_grad():
        learner.model.blocks[1].out[:, :, :6] = 0  # type: ignore[index, union-attr]
    (right,) = (in_page(page, ask, model, question, ["1.0"])["answer"],)
    assert right == learn.ask(learner, Rule("ab", "cd"), "aabbab").answer != whole["answer"]


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        (["a", "cd", "aabbab"], "the pattern has 1 letters; this model was trained on 2"),
        (["ab", "xy", "aabbab"], "“x” in the replacement is not one of the letters that this model knows"),
        (["ab", "cd", ""], "the input has 0 letters; this model was trained on 6"),
        (["ab", "cd", "aabbab"], ""),
    ],
)
def test_what_a_model_cannot_read_is_a_sentence(page: Browser, question: list[str], sentence: str) -> None:
    refuse = "(model, q) => smallModel(model.about, model.weights).refusal(q)"
    assert in_page(page, refuse, asking.portable(random_learner(0, 1)), question) == sentence


def test_runs_of_rules_equal_markov(page: Browser) -> None:
    rng, programs = np.random.default_rng(5), []
    for _ in range(300):
        sides = [
            ["".join(rng.choice(list("abc"), rng.integers(3))) for _ in range(2)] for _ in range(rng.integers(1, 4))
        ]
        rules = "\n".join(f"{x} ->{'.' * int(rng.integers(4) == 0)} {y}" for x, y in sides)
        programs.append([rules, "".join(rng.choice(list("abc"), rng.integers(1, 6)))])
    run = "(programs) => programs.map(([rules, text]) => runRules(readRules(rules).rules, text, 30, 1e6))"
    for (rules, text), theirs in zip(programs, in_page(page, run, programs), strict=True):
        ours = markov.run(markov.parse(rules), text, 30, on_limit="return")
        steps = [[step.rule_number - 1, step.before, step.position, step.after] for step in ours.trace]
        assert [[s["number"], s["before"], s["at"], s["after"]] for s in theirs["steps"]] == steps
        assert theirs["output"] == ours.output
        assert theirs["halted"].startswith(
            {"stop": "stop rule", "limit": "not over"}.get(ours.halted, "no rule applies")
        )


@pytest.mark.parametrize("rules", ["ab c", "", "a -> b -> c", "# only words", "a b -> c"])
def test_what_is_no_rule_is_a_sentence(page: Browser, rules: str) -> None:
    with pytest.raises(BadRequest):
        markov.parse(rules)
    assert "rule" in in_page(page, "(text) => readRules(text).problem", rules)


def test_only_models_of_rules_are_taken_along() -> None:
    learner = random_learner(0, 1)
    others = [learner._replace(recipe="paper"), learner._replace(layout=learn.Layout(LETTERS, (2,), 2))]
    for other in others:
        with pytest.raises(BadRequest, match="x -> y"):
            asking.portable(other)


# Kinds of questions


@pytest.mark.parametrize("kind", KINDS)
def test_questions_of_a_kind_are_of_it(kind: str) -> None:
    questions = draw_kind(kind, 50, alphabet=LETTERS, pattern=3, length=8, seed=1)
    assert all((len(q.x), len(q.y), len(q.z)) == (3, 3, 8) for q in questions)
    assert all(kind in kinds_of(q) and q.answer == Rule(q.x, q.y).apply(q.z) for q in questions)
    assert len(set(questions)) > 20
    assert questions == draw_kind(kind, 50, alphabet=LETTERS, pattern=3, length=8, seed=1)


def test_a_question_is_of_all_its_kinds() -> None:
    assert kinds_of(Question("aaa", "bbb", "aaaaaaaa")) == [*KINDS][:4]
    assert kinds_of(Question("abc", "xyz", "ababcdef")) == ["x begins, breaks off, and comes later"]
    assert kinds_of(Question("abc", "xyz", "defghijk")) == ["x does not occur"]
    assert kinds_of(Question("abc", "xyz", "deabcijk")) == [PLAIN]


@pytest.mark.parametrize(("pattern", "length"), [(1, 8), (3, 5)])
def test_sizes_without_room_are_refused(pattern: int, length: int) -> None:
    with pytest.raises(BadRequest, match="twice"):
        draw_kind(PLAIN, 1, alphabet=LETTERS, pattern=pattern, length=length, seed=0)


# The panel


def test_the_panel_asks_and_says_what_is_wrong(page: Browser) -> None:
    """Keys and clicks: answers by letters, what they look at, heads, kinds, sentences beside the fields."""
    fill = "(() => {{ const f = el.querySelector('{}'); f.value = {}; f.dispatchEvent(new Event('input')); }})()"
    model = asking.portable(random_learner(0, 1))
    sizes: Any = {"alphabet": LETTERS, "pattern": 2, "length": 6, "seed": 1}
    kinds = {kind: [[*q, q.answer] for q in draw_kind(kind, 5, **sizes)] for kind in KINDS}
    data = model | {"asked": kinds[PLAIN], "kinds": kinds}
    page.js("window.el = document.body.appendChild(document.createElement('div')); window.trained = []; undefined")
    page.js(f"window.data = {json.dumps(data)}; undefined")
    page.js("""window.panel = askPanel(el, {models: [{address: "m", name: "model m"}], load: async () => data,
        chosen: ["m"], rules: "ab -> cd", text: "aabbab", practise: (...what) => trained.push(what)}); undefined""")
    page.wait("el.querySelectorAll('.step').length === 3")  # two steps and the end
    framed = "[...el.querySelectorAll('.step:first-child .match')].map((e) => e.textContent).join('')"
    assert page.js(framed) == "abcd"
    marks = page.js(
        "[...el.querySelectorAll('.trace button.letter')].map((e) => [e.matches('.wrong'), e.lastChild.textContent])"
    )
    assert len(marks) == 12
    assert {tuple(mark) for mark in marks} <= {(True, "✗"), (False, "✓")}
    page.js("window.before = el.querySelectorAll('button.letter')[2]; before.focus()")
    page.press("Enter")
    page.wait(
        "!before.isConnected && document.activeElement.ariaLabel?.startsWith('letter 3')"
    )  # drawn anew, focus kept
    page.wait("el.querySelector('.said')?.textContent.includes('all heads')")
    page.js("el.querySelector('.attention td').focus()")
    page.press("ArrowRight")
    assert page.js("document.activeElement.cellIndex") == 2
    assert page.js("document.activeElement.ariaLabel === document.activeElement.title")
    assert page.js("el.querySelector('.told').textContent === document.activeElement.title")
    page.js("el.querySelector('.attention input').focus()")
    page.press(" ")
    page.wait("el.querySelector('.said')?.textContent.includes('With one head off')")
    assert page.js("document.activeElement.value") == "0.0"  # the keyboard stays where it was
    page.click("el.querySelector('button.fool')")
    page.wait(f"el.querySelectorAll('.practise').length === {len(KINDS)}")
    assert "asked of model m with a head off (layer 1, head 1)" in page.js("el.querySelector('.kinds th').textContent")
    style = json.dumps(Path(asking.__file__).with_name("ask.css").read_text("utf-8"))
    page.js(f"document.head.appendChild(document.createElement('style')).textContent = {style}")
    page.js("el.style.width = '120px'")  # a word breaks nowhere: it scrolls in its own box
    page.js(fill.format("input", json.dumps("aabbabaabbab")))
    page.wait("el.querySelector('.letters').children.length === 12")
    tops = page.js("[...el.querySelector('.letters').children].map((e) => e.offsetTop)")
    assert max(tops) - min(tops) < 5  # one line; a frame is a pixel thicker
    assert page.js("el.querySelector('.letters').scrollWidth > el.querySelector('.letters').clientWidth + 100")
    assert page.js("el.querySelector('.letters').clientWidth") <= 128
    page.js(fill.format("input", json.dumps("aabbab")))
    page.click("el.querySelector('.practise')")
    assert page.js("trained") == [["m", next(iter(KINDS))]]
    said = "[...el.querySelectorAll('.fields .problem')].map((e) => e.textContent).join('')"
    for field, text, sentence in [
        ("textarea", "ab cd", "is not a rule"),
        ("textarea", "äb -> cd", "“ä” in the rules"),
        ("textarea", "ab -> cd", ""),
        ("input", "a1", "“1” in the input"),
        ("input", "", "the input is empty"),
        ("input", "a", ""),
    ]:
        page.js(fill.format(field, json.dumps(text)))
        assert sentence in page.js(said)
        assert bool(page.js(said)) == bool(sentence)
    page.js(fill.format("textarea", json.dumps("a -> aa")))
    page.wait("el.querySelector('.trace')?.textContent.includes('not over after 100 steps')")
    assert "these rules do not end on this input" in page.js(said)
