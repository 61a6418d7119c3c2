"""What is shown, as HTML: no text becomes markup."""

from html.parser import HTMLParser

from autodeco.playground import view
from autodeco.playground.draw import Answer
from autodeco.playground.request import Way
from autodeco.playground.server import ServedToken
from autodeco.trace.stream import StreamedToken
from tests.trace.test_page import NASTY
from tests.trace.traces import token, trace


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag != "i":  # marks what cannot be seen
            self.tags.append((tag, [name for name, _ in attributes]))


def shown(text):
    answer = Answer(Way(decoding={text: 1}), [StreamedToken(1, text, 0.5, 0.5)], trace([token(text)], prompt=text))
    pages = [view.live([answer]), view.traced([answer]), view.status(text), view.error(text), view.python(text)]
    return "".join([*pages, view.heading(text, text)])


def test_no_text_becomes_markup():
    plain = Tags(shown("a")).tags
    for text in NASTY:
        assert Tags(shown(text)).tags == plain


def test_the_tint():
    tokens = [StreamedToken(1, "a", 0.0, 1.0), StreamedToken(2, "\n", 1.0, 1.0)]
    html = view.live([Answer(Way(), tokens), Answer(Way("default"))])
    assert '<span class="t0">a</span><span class="t10"><i>↵</i>\n</span>' in html
    assert "2 tokens · mean T 0.50 · mean P 1.00" in html
    assert "not begun" in html


def test_text_alone_where_nobody_can_say_more():
    html = view.traced([Answer(Way(), [ServedToken("a<b")])])
    assert "<span>a&lt;b</span>" in html
    assert "pieces of text: 1" in html
    assert "iframe" not in html
