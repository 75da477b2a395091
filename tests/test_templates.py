"""What a chat template means: its own control tokens are tokens, a record's are letters, and failures are sentences."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import BadRequest
from labkit.instructions import Example
from labkit.learn import chat

MARKS = ("<|role|>", "<|part|>", "<|stop|>", "<plan>", "</plan>")
HEAD = "{{ '<|role|>' + m.role + '<|part|>' }}"
# What a template may put between the header and the answer, and after it: one table for both kinds of tokenizer.
LEADS = ["", " ", "\n", "<plan>\n\n</plan>\n\n", "<|role|>final<|part|>", "final: "]
ENDS = ["<|stop|>", "<|stop|>\n", " </s>", "</s>", " <|stop|></s>"]


def tokenizer(kind: str = "bytes", special: bool = True, template: Any = None, pad: str | None = "<pad>") -> Any:
    """A tokenizer made on the spot: byte-level, or with SentencePiece's blanks; its marks special or merely added."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "bytes" else [*map(chr, range(32, 127)), "\n", "▁"]
    if kind == "bytes":
        raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    else:
        raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(prepend_scheme="first"), decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>", "<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(["user assistant final plan name a tree elm oak"], trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token=pad, chat_template=template
    )
    made.add_tokens([AddedToken(mark, special=special) for mark in MARKS], special_tokens=special)
    return made


def template(lead: str, end: str, content: str = "m.content") -> str:
    reply = f"{{{{ {lead!r} + {content} + {end!r} }}}}"
    return (
        "{{ bos_token }}{% for m in messages %}" + HEAD + "{% if m.role == 'user' %}{{ m.content + '<|stop|>' }}"
        "{% else %}" + reply + "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|role|>assistant<|part|>{% endif %}"
    )


def example(instruction: str, output: str, text: str = "") -> Example:
    return Example(instruction, text, output, "test", "t")


def own_tokens(tokens: Any, question: str, answer: str) -> list[int]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return tokens.apply_chat_template(turns)["input_ids"]


@pytest.mark.parametrize("kind", ["bytes", "blanks"])
@pytest.mark.parametrize("special", [True, False])
def test_rows_are_the_templates_own_tokens_up_to_the_end_mark(kind: str, special: bool) -> None:
    tokens = tokenizer(kind, special)
    for lead in LEADS:
        for end in ENDS:
            tokens.chat_template = template(lead, end)
            encoded = chat.encode(tokens, [example("name a tree", "elm"), example("a?", "oak, \n plan ")])
            for number, (question, answer) in enumerate([("name a tree", "elm"), ("a?", "oak, \n plan ")]):
                whole, row = own_tokens(tokens, question, answer), encoded.row(number).tolist()
                assert row == whole[: len(row)], (lead, end)
                assert row[-1] in {tokens.convert_tokens_to_ids(mark) for mark in ("<|stop|>", "</s>")}
                assert row.count(tokens.bos_token_id) == 1


@given(
    st.lists(st.sampled_from([*MARKS, "</s>", "<s>", "elm", " ", "\n", "<", "|>"]), max_size=8).map("".join),
    st.lists(st.sampled_from([*MARKS, "</s>", "<s>", "oak", " ", "\n", "<|"]), max_size=8).map("".join),
    st.sampled_from(LEADS),
    st.booleans(),
)
def test_no_record_can_write_a_control_token(question: str, answer: str, lead: str, special: bool) -> None:
    """As many control tokens as with harmless texts; the words are all there; a neighbour's row stays as it was."""
    tokens = KEPT[special]
    tokens.chat_template = template(lead, "<|stop|>\n") + "{{ '' if true else '<plan></plan></s><s>' }}"
    rows = chat.encode(tokens, [example("q" + question, "a" + answer), example("name", "elm")])
    control = {tokens.convert_tokens_to_ids(mark) for mark in (*MARKS, "<s>", "</s>")}
    controls = [[token for token in rows.row(i).tolist() if token in control] for i in (0, 1)]
    assert controls[0] == controls[1]
    assert rows.row(1).tolist() == chat.encode(tokens, [example("name", "elm")]).row(0).tolist()
    learned = tokens.decode(rows.row(0)[rows.prompts[0] :])
    assert learned == lead + "a" + answer + "<|stop|>"


KEPT = {special: tokenizer("bytes", special) for special in (True, False)}


def test_a_template_may_trim_but_not_cut() -> None:
    tokens = tokenizer(template=template("", "<|stop|>", "(m.content | trim)"))
    (_, learned), *_ = chat.turns(tokens, [example("name", "")], ["  elm \n"])
    assert tokens.decode(learned) == "elm<|stop|>"
    tokens.chat_template = template("", "<|stop|>", "m.content.split('</plan>')[-1]")
    assert list(chat.turns(tokens, [example("name", "")], ["elm"]))
    with pytest.raises(BadRequest, match="leaves out part of the answer of 1 examples, the first '<plan>why"):
        list(chat.turns(tokens, [example("name", "")] * 2, ["elm", "<plan>why</plan>elm"]))


BROKEN = {
    "{% for m in messages if m.role == 'assistant' %}{{ m.content }}{% endfor %}": "leaves out the question",
    "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}": "leaves out the answer",
    "fixed text": "leaves out the question",
    "{{ messages[-1].content }}": "rewrites the prompt when it adds the answer",
    "{% for m in messages %}{{ m.content }}": "cannot be applied (TemplateSyntaxError",
    "{{ raise_exception('only with tools') }}": "cannot be applied (TemplateError: only with tools",
    "{{ messages[0].parts[0].text }}": "cannot be applied (UndefinedError",
    "{{ messages[0].content + 1 }}": "cannot be applied (TypeError",
    "{{ 1 / 0 }}": "cannot be applied (ZeroDivisionError",
    "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}": "system first",
}


@pytest.mark.parametrize("written", list(BROKEN))
def test_a_template_that_cannot_be_used_is_one_sentence(written: str) -> None:
    KEPT[True].chat_template = written
    for attempt in (chat.encode, chat.prompt_tokens):
        if attempt is chat.prompt_tokens and ("answer" in BROKEN[written]):
            continue
        with pytest.raises(BadRequest) as refused:
            attempt(KEPT[True], [example("name", "elm")])
        assert "\n" not in str(refused.value)
        assert "choose one of the templates alpaca, plain" in str(refused.value)
    with pytest.raises(BadRequest) as refused:
        chat.encode(KEPT[True], [example("name", "elm")])
    assert BROKEN[written] in str(refused.value)


def test_of_several_templates_default_is_taken() -> None:
    tokens = tokenizer(template={"default": template("", "<|stop|>"), "tools": "{{ 1 / 0 }}"})
    chat.set_template(tokens)
    assert chat.show_row(tokens, chat.encode(tokens, [example("name", "elm")])).endswith("⟦elm<|stop|>⟧")
    tokens = tokenizer(template={"tools": "x", "rag": "y"})
    with pytest.raises(BadRequest, match=r"one of several \(rag, tools\), none of them named 'default'; choose one of"):
        chat.set_template(tokens)
    chat.set_template(tokens, "plain")
    assert chat.show_row(tokens, chat.encode(tokens, [example("name", "elm")])).endswith("⟦elm</s>⟧")


def test_tokens_beyond_the_embeddings_are_refused_with_both_numbers() -> None:
    tokens = tokenizer()
    count = len(tokens)
    chat.check_tokens(tokens, count - 1, count)
    with pytest.raises(BadRequest, match=rf"token {count - 1} \('</plan>', of {count} tokens\) and the model 50 embed"):
        chat.check_tokens(tokens, count - 1, 50)
    tokens.pad_token = "</plan>"
    with pytest.raises(BadRequest, match="</plan>"):
        chat.check_tokens(tokens, 3, count - 1)
