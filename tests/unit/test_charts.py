"""Charts: text that a browser and a screen reader can both read."""

from xml.etree import ElementTree

from checkout.charts import Bar, Part, stacked_bars

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*bars: Bar) -> ElementTree.Element:
    text = stacked_bars(name="c", title="Charges", description="By day.", bars=bars)
    return ElementTree.fromstring(text)  # noqa: S314 (our own text)


def test_a_chart_is_named_and_described() -> None:
    svg = drawn(Bar("31", [Part(3, "good", "3 succeeded")]))

    assert (svg.get("role"), svg.get("aria-labelledby")) == ("img", "c-title c-desc")
    assert [e.text for e in svg.iter(f"{SVG}title")] == ["Charges", "31: 3 succeeded"]
    assert svg.find(f"{SVG}desc") is not None


def test_heights_are_in_proportion_and_stack_without_a_gap() -> None:
    svg = drawn(Bar("30", [Part(300, "good", ""), Part(100, "bad", "")]), Bar("31", []))

    good, bad = svg.iter(f"{SVG}rect")
    assert int(good.get("height", "")) == 3 * int(bad.get("height", ""))
    assert int(bad.get("y", "")) + int(bad.get("height", "")) == int(good.get("y", ""))


def test_one_in_a_hundred_thousand_is_seen() -> None:
    svg = drawn(Bar("31", [Part(100_000, "good", ""), Part(1, "bad", "")]))

    assert [int(r.get("height", "")) for r in svg.iter(f"{SVG}rect")][1] >= 2


def test_what_is_drawn_is_escaped_and_styled_by_classes_alone() -> None:
    text = stacked_bars(
        name="c", title="<b>", description="&", bars=[Bar("<i>", [Part(1, "good", "<u>")])]
    )

    assert "<b>" not in text
    assert "<u>" not in text
    assert "style=" not in text


def test_nothing_at_all_is_drawn_as_an_empty_axis() -> None:
    assert list(drawn().iter(f"{SVG}rect")) == []
