"""A run in a notebook: a small table in which no text of the run is markup."""

from __future__ import annotations

from html.parser import HTMLParser

from clicooper_hpc.runstore.run_html import run_html

EVIL = '<script>alert("x")</script>\x1b[2J'


def test_texts_of_the_run_are_text() -> None:
    names: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            names.append(tag)

    shown = run_html(
        EVIL,
        {"created": EVIL},
        {EVIL: EVIL, "clean_accuracy": 0.8055},
        {"text": EVIL, "spec.guarantee.epsilon": EVIL, "spec.guarantee.relation": EVIL},
    )
    Tags().feed(shown)
    assert set(names) == {"div", "strong", "table", "tr", "td", "details", "summary", "pre"}
    assert "\x1b" not in shown
    assert "80.55 %" in shown


def test_a_run_without_privacy_or_card_says_so() -> None:
    assert "none: what left carried no noise" in run_html("t", {}, {}, {"private": False})
    assert "not stored" in run_html("t", {}, {}, {})
