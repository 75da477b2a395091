"""Which option of a closed question a free answer names: by its letter or by its text.

How it is read: reasoning is dropped, letters are made plain (full width, circled), and mark-up goes (Markdown, LaTeX,
HTML, quotation marks). Options that are repeated as a list, that are denied ("not A", "A is wrong") or struck out are
passed over. What is left is read in this order, and the first kind of statement found decides:
1. a "final answer";
2. a declared answer: at the head of the text or alone in a sentence (`B`, `B.`, `(b) green`, `B, because ...`), after
   "the answer is", "I choose" or the like in some other languages, boxed, or "B is right";
3. a mere mention: an option's text, a letter in brackets or after "option", "choice" or "answer".
Guaranteed: several options named by one kind of statement are None, never the first or the last of them; an explanation
that only mentions other options changes nothing. Left open: denials in other words, and in most languages.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from string import ascii_uppercase

from labkit.errors import BadRequest
from labkit.instructions.reasoning import outside_reasoning

# Options found in a text are replaced by characters of Unicode's private areas: one kind where the option's text stood,
# one for a letter. All that follows reads those, and no option's text can pass for a phrase that is looked for.
_TEXTS, _LETTERS = 0xF0000, 0xF0100
_TEXT, _LETTER = "[\U000f0000-\U000f00ff]", "[\U000f0100-\U000f01ff]"
_ANY = f"(?:{_TEXT}|{_LETTER})"

_WORD = re.compile(r"[^\W_\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # scripts with blanks between words
_GOES_ON = r"(?:because|since|as|is|or|and|but|not|nor|due|for sure)\b"  # after "A" as a letter, not as an article
_NOUN = r"(?:answer|option|choice|letter|response|solution|alternative|答案|选项|选择|选)"
_NOUNS = (r"(?:answers?|options?|choice|response|solution|alternative|pick|verdict|antwort|lösung|réponse|respuesta|"
          r"resposta|risposta|ответ|答案|选项|答|正解|答え|回答|정답)")  # fmt: skip
_IS = r"(?:is|was|be|are|must be|should be|would be|will be|ist|lautet|est|es|è|é|是|为|は|[은는]|=|:|-+>|→|⇒|[-–—])"
_FILL = (r"(?:\s|[:\"(\[]|(?:is|be|the|an?|either|both|option|options|choice|letter|answer|clearly|definitely|"
         r"therefore|thus|likely|probably|simply|just|number|correct|right|es|选项|答案)\b)*")  # fmt: skip
_JOIN = (r"(?:[\s)\]]*(?:,\s*)?(?:\b(?:or|and|oder|und|ou|et)\b|或者?|和|及)\s*|"
         r"[ )\]]*[,/&+]? *)[(\[]*(?:option\s+)?[(\[]*")  # fmt: skip
_MENTION = rf"({_ANY}(?:{_JOIN}{_ANY}|[ )\]]*[.:\-–—(\[]+ *{_TEXT})*)"
_RIGHT = r"(?:(?:the|my)\s+)?(?:\w+\s+){0,2}(?:correct|right|best|true|answer|choice|pick|accurate|正确|对)"
_WRONG = r"(?:\w+ly\s+)?(?:wrong|incorrect|false|untrue|out\b|ruled out|eliminated|not\b|never)"
_LEAD = (r"(?:(?:so|thus|therefore|hence|probably|maybe|definitely|clearly|surely|certainly|i(?:'d| would)? (?:say|"
         r"think|guess|believe)|it is|it's|it must be|that is|that's|yes|ok(?:ay)?|sure|wait|"
         r"actually|hmm|oh|sorry|no|correction|rather|in fact|因此|所以|"
         r"故)\b[\s,:]*)*")  # fmt: skip
_END = r"(?=\s*(?:[.;,:!?()\]。、\n✓✔✅]|[-–—]\s|$))"

_NO = r"(?:✗|✘|❌|✖|no|wrong|incorrect|false)(?=\s*(?:[.,;)\n]|$|[\U000f0000-\U000f01ff]))"  # a mark, or a word alone
_OR, _AND = (rf"(?:(?:\s*,\s*{_ANY}[)\]]*)*\s*,?\s*(?:{words})\b{_FILL}{_ANY}[)\]]*)?"  # more of them: "A, B or C"
             for words in ("or|nor|oder|noch|ou|ni", "or|and|oder|und|ou|et"))  # fmt: skip

_DENIED = re.compile(
    r"(?:\b(?:not|rather than|instead of|neither|nor|never|unlike|eliminat\w+|exclud\w+|reject\w*|rul(?:e|ed|ing) out|"
    r"cannot be|can't be|isn't|wasn't|nicht)\b|n't\b|不是|不选|而非|排除)"
    rf"{_FILL}{_ANY}[)\]]*{_OR}(?:\s*,?\s*but\b)?|(?:{_NOUN}s?\s*)?[(\[]*{_ANY}[)\]]*(?:[.:]? *{_TEXT})?{_AND}"
    rf"(?: (?:is|are|was|were|looks?|seems?|cannot be)(?: both| all)? {_WRONG}| isn't\b| ?(?:是?错|不对|不正确)|"
    rf"[.:?]?\s*[-–—=]?\s*{_NO})",
    re.IGNORECASE,
)
_LISTED = re.compile(rf"^\s*[-•]?\s*[(\[]?({_LETTER})\s*[.):\]、][ ]*\S.*$", re.MULTILINE)
_ANNOUNCED = re.compile(r"\b(?:answer|option|choice)\s+(?:is|would be)\s*:?\s*\Z", re.IGNORECASE)
_FINAL = re.compile(rf"(?:\bfinal\s+{_NOUNS}|最终答案|最后答案)\s*{_IS}?{_FILL}{_MENTION}", re.IGNORECASE)
_DECLARED = [
    re.compile(rf"\A{_LEAD}[(\[]*(?:{_NOUN}\s+)?[(\[]*{_MENTION}[)\]]*(?:{_END}|(?=\s+(?:because|since|as)\b))", re.I),
    re.compile(rf"(?:^|(?<=[.!?。:;\n]))\s*{_LEAD}[(\[]*{_MENTION}[)\]]*\s*[.!。]*\s*$", re.I | re.M),
    re.compile(rf"(?:^|(?<=[.!?。:;]\s))[(\[]*({_LETTER})[)\]]*[.!。]+(?=\s|$)", re.M),
    re.compile(rf"{_NOUNS}(?:\s+[^\W\d]+\??){{0,8}}?\s*{_IS}{_FILL}{_MENTION}", re.I),
    re.compile(rf"\b(?:choose|chose|pick|select|go with|going with|opt for|vote for)\b{_FILL}{_MENTION}", re.I),
    re.compile(rf"(?:选择?|選){_FILL}{_MENTION}"),
    re.compile(rf"{_MENTION}[)\]]*\s*(?:is|are|seems|looks|must be|should be|是)\s*{_RIGHT}", re.I),
]
_FORMS = (f"({_TEXT})", rf"[(\[]\s*({_LETTER})\s*[)\]]", rf"{_NOUN}\s*[(\[]*({_LETTER})")
_MENTIONED = [re.compile(form, re.IGNORECASE) for form in _FORMS]

_MARKUP: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    ("[\u200b-\u200f\u2060\ufeff\u00ad]", ""),  # signs without width
    ("[\u2018\u2019]", "'"),
    (r"[\u2010-\u2012\u2212]|\u2013(?=\d)", "-"),
    (r"~~.*?~~", " "),
    (r"<[|/]?[A-Za-z][^<>]{0,80}>", " "),
    (r"\\(?=[.!])", ""),
    (r"\\[()\[\]]|\\(?:quad|qquad)\b|\\[ ,;!]|\$", " "),
    (r"[*`\"“”„«»「」『』]", ""),
    (r"(?<!\w)_+|_+(?!\w)", ""),
    (r"(?m)^\s*(?:[#>]+|[-•]\s)\s*", ""),
    (r"(?<![A-Za-z])'|'(?![A-Za-z])", ""),
    (r"(?<=[(\[]) +| +(?=[)\]])", ""),
]
_BRACED = re.compile(
    r"\\(?:text\w*|math[a-z]+|bm|boldsymbol|operatorname|emph|underline|boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_ANSWERS = [(r"\\f?box(?:ed)?\s*(?=\{)", "\nanswer: \\\\text"), (r"<answer\b[^<>]*>|(?m:^\s*#{4}\s)", "\nanswer: ")]


def named_option(text: str, options: Sequence[str]) -> int | None:
    """Which option a free answer names, by letter (A, B, ...) or by its text; None when it names none, or several.

    See the head of this module for what counts. An option's text counts where it stands as a whole, in any case and
    spacing, and not within a longer option's.

    >>> named_option("**B**, because option A is wrong", ["red", "green"]), named_option("A or B", ["red", "green"])
    (1, None)

    Raises:
        BadRequest: for no options, an empty one, or two alike.
    """
    texts = [_plain(option) for option in options]
    if not texts or not all(texts) or len(set(texts)) < len(texts) or len(texts) > len(ascii_uppercase):
        raise BadRequest(f"options to be named are up to {len(ascii_uppercase)} different texts, none of them empty")
    answer = re.sub(_ANY, "", outside_reasoning(text))
    letters = ascii_uppercase[: len(texts)]
    if _plain(answer) in texts and _plain(answer).upper() not in letters:
        return texts.index(_plain(answer))
    stated = _statements(_marked(answer, options, letters))
    for forms in ([_FINAL], _DECLARED, _MENTIONED):
        mentions = (mention for form in forms for mention in form.findall(stated))
        if named := {ord(mark) % 256 for mention in mentions for mark in re.findall(_ANY, mention)}:
            return named.pop() if len(named) == 1 else None
    return None


def _marked(answer: str, options: Sequence[str], letters: str) -> str:
    """The answer without mark-up, options and letters replaced by their marks."""
    for form, mark in _ANSWERS:
        answer = re.sub(form, mark, answer, flags=re.IGNORECASE)
    bare = [_bare(option) for option in options]
    # An option that is itself written with mark-up is looked for before the mark-up goes.
    answer = _replaced(answer, [option if option != plain else "" for option, plain in zip(options, bare, strict=True)])
    answer = _replaced(_bare(answer), [text if text.upper() not in letters else "" for text in bare])
    return _lettered(answer, letters)


def _statements(answer: str) -> str:
    """What is stated: without options that are listed again, or denied."""
    lists: list[list[re.Match[str]]] = []
    for line in _LISTED.finditer(answer):
        if _ANNOUNCED.search(answer, 0, line.start()):
            continue
        if lists and lists[-1][-1][1] < line[1]:  # its letter goes on; else a new list begins
            lists[-1].append(line)
        else:
            lists.append([line])
    for line in reversed([line for lines in lists if len(lines) > 1 for line in lines]):
        answer = answer[: line.start()] + answer[line.end() :]
    return _DENIED.sub(" ", answer).strip().lstrip(" \n.,;:")


def _replaced(answer: str, texts: Sequence[str]) -> str:
    for place in sorted(range(len(texts)), key=lambda i: -len(texts[i])):
        if words := texts[place].split():
            mark, pattern = chr(_TEXTS + place), r"\s+".join(map(re.escape, words))
            answer = re.sub(pattern, lambda at: mark if _whole(at) else at[0], answer, flags=re.IGNORECASE)  # noqa: B023
    return answer


def _whole(match: re.Match[str]) -> bool:
    """Is this no part of a longer word or number?"""
    before, after = match.string[: match.start()][-2:], match.string[match.end() :][:2]
    if _WORD.match(before[-1:]) or _WORD.match(after[:1]):
        return False
    if match[0][0].isdigit() and (before[-1:] in {"-", "+", "/"} or re.fullmatch(r"\d[.,]", before)):
        return False
    return not (match[0][-1].isdigit() and re.fullmatch(r"[.,/]\d", after))


def _lettered(answer: str, letters: str) -> str:
    """Letters that stand for options become marks: capitals, unless they are words; small ones where none can be."""
    both = f"{letters}{letters.lower()}"
    apart, ends = "(?<![A-Za-z0-9'])", "(?![A-Za-z0-9'])"
    small = [
        rf"(?:^|(?<=[(\[]))\s*([{both}])(?=\s*[)\]])",
        rf"^\s*([{both}])(?=[.:、,]|\s*$)",
        rf"(?i:{_NOUNS})\s*(?i:{_IS})?[\s:(\[]*(?<![A-Za-z])([{both}])(?=\s*(?:$|[.,;:)\]\n]))",
        rf"(?i:option|choice|letter)\s*[(\[]*{apart}([{both}]){ends}",
        rf"(?i:answer)\s*[(\[]*{apart}([{letters}]){ends}",
    ]
    words, others = re.findall("[AI]", letters), re.sub("[AI]", "", letters)
    capital = [rf"{apart}([{others}]){ends}"] if others else []
    capital += [rf"{apart}({word})(?=\s*(?:$|[^\w\s']|[^\x00-\x7f])|\s*\n|\s+{_GOES_ON})" for word in words]
    for form in (*small, *capital):
        answer = re.sub(form, _as_mark, answer, flags=re.MULTILINE)
    return answer


def _as_mark(match: re.Match[str]) -> str:
    mark = chr(_LETTERS + ascii_uppercase.index(match[1].upper()))
    start, end = match.start(1) - match.start(), match.end(1) - match.start()
    return match[0][:start] + mark + match[0][end:]


def _bare(text: str) -> str:
    """Without mark-up, in plain letters."""
    bare = unicodedata.normalize("NFKC", text)
    count = 1
    while count:
        bare, count = _BRACED.subn(r" \1 ", bare)
    for form, replacement in _MARKUP:
        bare = re.sub(form, replacement, bare)
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", bare)).strip()


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
