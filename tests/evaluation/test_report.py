"""The report as a reader's browser gets it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from shutil import which
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from helpers.report_example import DIGITS, GAINS, difference_of, example_pictures, example_report
from hypothesis import given
from hypothesis import strategies as st

from ganaug.evaluation import Report
from ganaug.evaluation.report import figures
from ganaug.evaluation.report.drawing import TEXT, WIDTH, wrapped
from ganaug.evaluation.report.html import Picture, render_html
from ganaug.evaluation.report.wording import (
    MINUS,
    NOTHING,
    SPACE,
    interval,
    kimg,
    number,
    percent,
    plain,
    points,
    training_settings,
)

SCRIPT = "<script>alert(1)</script>"
HOSTILE = (
    SCRIPT,
    "\"'><img src=x onerror=alert(1)>",
    "x" * 200,
    "$\\frac",
    "猫の写真",
    "مرحبا",
    "\u202e\0\x1b",
    "items",
    "",
)
TWO = {"acgan-28": "cannot tell yet", "dcgan-32": "hurts"}
LONG = {
    "a-rather-long-name-of-a-generator": "helps",
    "outputs/flow wide": "hurts",
    "digits": "no worthwhile effect",
    "flow": "cannot tell yet",
}


DRAWN = (figures.forest_plot, figures.learning_curve, figures.recall_plot)


class Page(HTMLParser):
    """Tags with their attributes and following text, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if not self.tags or self.tags[-1][0] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html(digits) -> str:
    return render_html(example_report(), example_pictures(digits))


@pytest.fixture(scope="module")
def two(digits) -> str:
    return render_html(example_report(TWO), example_pictures(digits, tuple(TWO)))


@pytest.fixture(scope="module")
def hostile(digits) -> str:
    outcomes = {SCRIPT: "helps", "g" * 200: "hurts"}
    return render_html(example_report(outcomes, HOSTILE, fit=False), example_pictures(digits, tuple(outcomes)))


@pytest.mark.parametrize("which_one", ["html", "two", "hostile"])
def test_it_needs_nothing_else_and_everything_has_a_name(which_one, request):
    html = request.getfixturevalue(which_one)
    page = Page(html)
    names = [tag for tag, _ in page.tags]
    assert names.count("h1") == names.count("main") == names.count("title") == 1
    assert "script" not in names
    assert page.all("html")[0] == {"lang": "en"}
    assert page.all("meta")[1]["content"].startswith("default-src 'none'")
    assert len(page.all("img")) >= 6
    for image in page.all("img"):
        assert len(image["alt"]) > 10
        assert re.match(r"data:image/(png|svg\+xml);base64,", image["src"])
    assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r"base64,[^\"]*", "", html))
    assert names.count("table") == names.count("caption") == html.count("<caption><span>") >= 6
    assert all("scope" in cell for cell in page.all("th"))
    for box in page.all("div"):
        if "scroll" in (box.get("class") or ""):
            assert box["tabindex"] == "0"
            assert box["aria-label"]


def verdicts(html: str) -> str:
    """Text of the verdicts' boxes, in one line."""
    return " ".join(Page(html).text.split()).partition("classifier? ")[2].partition("What was judged")[0]


def test_the_verdict_comes_first(html, two):
    assert re.match(
        r"The generator “acgan-28”: ▲ Helps \+1\.4 points \[.*\] at ratio 0\.3, worth 1,240 extra real images "
        r"With 30 % of the training images generated, .*lies above zero.* Mix them in at ratio 0\.3\. "
        r"About 1,240 extra real images",
        verdicts(html),
    )
    found = verdicts(two)
    assert found.index("Cannot tell yet") < found.index("Hurts")
    assert f"{MINUS}1.2 points" in found
    assert "Train without them." in found


def test_each_answer_has_a_mark_and_a_look_of_its_own_and_says_what_it_means(digits):
    html = render_html(example_report(LONG), example_pictures(digits, tuple(LONG)))
    found = verdicts(html)
    assert [re.search(rf"“{name}”: (\S) ", found)[1] for name in LONG] == ["▲", "▼", "≈", "?"]
    boxes = re.findall(r'<section class="verdict (\w+)"', html)
    assert len(set(boxes)) == 4
    assert all(f".{box} {{" in html for box in boxes)
    _, hurts, nothing, unknown = (part.partition("The generator")[0] for part in re.split("[▲▼≈?] ", found)[1:])
    assert "Train without them." in hurts
    assert "The 90 % interval" in nothing
    assert "lies within 1 point of zero" in nothing
    assert "it is less than 1 point either way" in nothing
    assert "may help, hurt or do nothing" in unknown
    assert re.search(r"no number of seeds|more seeds would tell", unknown)
    assert found.count("The interval covers how the classifiers' training happened to go") == 4


def test_a_small_effect_is_called_small_and_real(html, digits):
    report = example_report()
    verdict = replace(report.generators[0].verdict, difference=difference_of(0.005, 5))
    report = replace(report, generators=(replace(report.generators[0], verdict=verdict),))
    assert "The effect is real but small: the 90" in render_html(report, example_pictures(digits))
    assert "The effect is real but small" not in html


def test_names_in_the_verdict_keep_their_hyphens(digits):
    report = example_report({"it": "hurts"})
    verdict = report.generators[0].verdict
    verdict = replace(verdict, sentence=f"{verdict.sentence}, with images that keep-2-of-3 kept")
    report = replace(report, generators=(replace(report.generators[0], verdict=verdict),))
    page = render_html(report, example_pictures(digits, ("it",)))
    assert "with images that keep-2-of-3 kept</p>" in page
    assert f"{MINUS}1.2 points [{MINUS}1.6, {MINUS}0.8]" in page


class Cells(HTMLParser):
    """Rows of a table as lists of texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]}{data}".split())


def rows_of(html: str, name: str) -> dict[str, list[str]]:
    """First cell of each row of a table to the others."""
    start = html.index(f'aria-label="Table: {name}"')
    table = html[html.index("<thead>", start) : html.index("</table>", start)]
    return {first: others for first, *others in Cells(table).rows}


def test_how_the_reference_and_the_ratio_were_chosen(html, two):
    rows = rows_of(html, "search for the reference")
    assert rows["trained with"] == ["1,000 steps", "2,000 steps", "4,000 steps", "last doubling (points)"]
    means = [cell[:4] for cell in rows["real + classicreference"]]
    assert means == ["93.8", "94.6", "94.5", f"{MINUS}0.1"]
    assert rows["real + classic + TrivialAugment"][-1] == "still rising +0.9"
    assert rows["real + classic, learning rate ÷ 3"][-1] == NOTHING
    assert len(rows) == 8
    assert re.search(r'class="chosen">94\.6 <span>±', html)
    assert "cross-validated: each left out one of 5 parts" in html
    assert "they flatter what was chosen" in html
    chosen = [name for name in rows_of(two, "choice of the ratio") if name.endswith("chosen ratio")]
    assert chosen == [f"real + classic + 30 % generated by “{name}”chosen ratio" for name in TWO]


def test_what_was_judged_says_that_steps_are_equal_and_what_that_is_in_epochs(html):
    assert rows_of(html, "how long each was trained") == {
        "trained with": ["trainings", "steps", "epochs of real images"],
        "real + classicreference": ["5", "2,000", "128"],
        "real + classic, 2 times the steps": ["3", "4,000", "256"],
        "real + classic + 30 % generatedchosen ratio": ["5", "2,000", "89.6"],
        "generated only": ["3", "2,000", "0"],
    }
    assert "oversampling and class-balanced loss</b>, because the classes are balanced" in html


@pytest.mark.parametrize(("rising", "said"), [(True, "would probably still help"), (None, "is not known")])
def test_a_reference_that_more_steps_would_help_is_warned_of_at_both_places(html, digits, rising, said):
    report = example_report()
    faster = [replace(trial, learning_rate_factor=3.0) if trial.chosen else trial for trial in report.search.trials]
    report = replace(report, search=replace(report.search, trials=tuple(faster), rising=rising))
    page = render_html(report, example_pictures(digits))
    warnings = re.findall(r'<p class="warning">([^<]*reference[^<]*)<code>--max_steps&nbsp;4000', page)
    assert len(warnings) == 2
    assert all(said in warning for warning in warnings)
    assert said in verdicts(page)
    assert ("(with the classifier's own learning rate)" in verdicts(page)) == bool(rising)
    assert "All have the reference&#39;s learning rate, 3 times" in page
    assert "--max_steps" not in html


@pytest.mark.parametrize("outcome", GAINS)
def test_no_answer_stands_without_the_reservation_that_training_was_too_short(digits, outcome):
    report = example_report({"acgan-28": outcome})
    (found,) = report.generators
    told = f"{outcome}, but the classifiers were trained too briefly"
    verdict = replace(found.verdict, sentence=found.verdict.sentence.replace(outcome, told, 1))
    report = replace(
        report,
        search=replace(report.search, too_short="4 times the steps bring +9.0 points"),
        generators=(replace(found, verdict=verdict),),
    )
    page = render_html(report, example_pictures(digits))
    (heading,) = re.findall(r'<h2 id="verdict-1">.*</h2>', page)
    assert f"{told.capitalize()}</h2>" in heading
    assert f"points: {told}." in page  # for those who do not see the figure
    assert f'<p class="sentence">{told}' not in page
    assert "More seeds are not needed" not in page
    assert ("before you decide" in page) == (outcome != "cannot tell yet")


def test_classifiers_that_were_trained_too_briefly_are_warned_of(digits):
    report = example_report()
    report = replace(
        report, search=replace(report.search, rising=None, too_short="four times the steps bring 9 points")
    )
    page = render_html(report, example_pictures(digits))
    assert "trained too briefly" in verdicts(page)
    assert "is not known" not in verdicts(page)
    # The advice is to find out, with flags that go together.
    (generator,) = report.generators
    assert generator.verdict.outcome == "helps"
    assert f"at ratio {generator.verdict.recommended_ratio:g}." not in verdicts(page)
    assert "before you decide" in verdicts(page)
    flags = re.search(r"<code>--max_steps&nbsp;(\d+) --steps&nbsp;(\d+)</code>", page)
    assert int(flags[1]) >= int(flags[2]) == report.settings.steps


def test_the_method_says_how_often_what_was_trained(html):
    assert "were trained 5 times; what stands beside them 3 times" in html
    assert "1000 to 1004" in html


def test_what_a_reader_must_be_warned_of(html, two):
    assert "hardly differ" not in html
    assert two.count("hardly differ") == 1
    assert two.count("There are signs of memorisation.") == 2
    assert html.count('class="warning"') == 1
    assert two.count('<p class="warning">') == 2  # leakage that is not known: in the verdict, and in its section


def test_variations_of_training_images_are_not_taken_for_memorised_ones(digits):
    report = example_report()
    assert "There are signs of memorisation." in render_html(report, example_pictures(digits))
    page = render_html(replace(report, settings=replace(report.settings, vary=0.5)), example_pictures(digits))
    assert "signs of memorisation" not in page
    assert "evaluate it without <code>--vary</code>" in page


def with_repeats(report: Report, repeats: int) -> Report:
    """The same report, whose verdict rests on so many seeds or draws."""
    (generator,) = report.generators
    verdict = replace(generator.verdict, difference=replace(generator.verdict.difference, repeats=repeats))
    return replace(report, generators=(replace(generator, verdict=verdict),))


def test_two_trainings_are_too_few_and_the_verdict_says_so(html, digits):
    report = with_repeats(example_report(), 2)
    report = replace(report, arms=tuple(replace(arm, scores=arm.scores[:2]) for arm in report.arms))
    page = render_html(report, example_pictures(digits))
    assert "only 2 trainings" in verdicts(page)
    assert "--seeds" in verdicts(page)
    assert "only 2 trainings" not in html


def test_two_draws_are_too_few_however_many_trainings_there_are(digits):
    page = render_html(replace(with_repeats(example_report(), 2), draws=2), example_pictures(digits))
    assert "only 2 times" in verdicts(page)
    assert "--draws" in verdicts(page)
    assert "--seeds" not in verdicts(page)
    assert "were trained 5 times, spread over 2 draws of the training images; what stands beside" in page


def test_how_many_held_out_images_of_how_many_were_left_out_is_said(html):
    """The example has neither their number nor the repetitions, as an older report."""
    data = example_report().data
    given = data.validation_images + data.test_images + data.left_out
    assert f"2 of the {given:,} held-out images were left out as copies of what a classifier or a generator" in html


def test_what_a_budget_left_out_is_said(html, digits):
    given_up = "There is no learning curve", "Augmentations not tried: rand; generated images may look better"
    page = render_html(replace(example_report(), given_up=given_up), example_pictures(digits))
    assert page.count("What was given up") == 1
    assert all(f"<li>{sentence}.</li>" in page for sentence in given_up)
    assert "given up" not in html


def test_without_a_learning_curve_there_is_no_section_on_it(html, digits):
    """The reference is then its only point."""
    report = example_report(fit=False)
    alone = replace(report.curve, points=report.curve.points[3:4], measured_to=1000)
    page = render_html(replace(report, curve=alone), example_pictures(digits))
    assert "<b>Learning curve.</b>" in html
    assert "<b>Learning curve.</b>" not in page
    assert "worth in real images</h2>" not in page


def test_how_a_generator_was_trained_is_what_its_kind_of_model_has():
    recorded = {"total_kimg": 67.8, "discriminator_steps": 1, "patience": None, "augment": [], "compile": False}
    as_gan = {"total kimg": "67.8", "discriminator steps": "1", "compile": "no"}
    assert dict(training_settings({**recorded, "last_D_loss": 0.5})) == {**as_gan, "last D loss": "0.5"}
    as_flow = {"total kimg": "67.8", "compile": "no", "last loss": "0.1291"}
    assert dict(training_settings({**recorded, "last_loss": 0.1291})) == as_flow


def test_what_training_in_python_recorded_may_be_of_another_type():
    assert training_settings({"seed": np.int64(0), "sizes": torch.ones(2), "augment": ()})[0] == ("seed", "0")


def test_a_generator_called_like_the_data_is_not_taken_for_them(digits):
    page = render_html(example_report({"digits": "helps"}), example_pictures(digits, ("digits",)))
    assert "“<bdi>digits</bdi>”" in page
    assert not re.search(r"[Ii]mages of digits", page)
    report = example_report({"digits": "helps"})
    for draw in (figures.learning_curve, figures.recall_plot):
        assert "with images drawn by the generator “digits”" in draw(report)


def test_hostile_names_are_text(hostile):
    page = Page(hostile)
    assert SCRIPT in page.text
    assert "$\\frac" in page.text
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]


def test_a_name_that_utf8_cannot_hold(digits):
    classes = ("\udcff", *DIGITS[1:])
    render_html(example_report(classes=classes), example_pictures(digits)).encode()


@pytest.mark.parametrize(
    "report", [example_report(), example_report(TWO, HOSTILE, fit=False)], ids=["plain", "hostile"]
)
@pytest.mark.parametrize("draw", DRAWN)
def test_figures_are_valid_and_the_same_each_time(draw, report):
    svg = draw(report)
    ElementTree.fromstring(svg)
    assert svg == draw(report)
    sizes = [
        float(size)
        for size in re.findall(r"font: (?:\w+ )*([\d.]+)px|font-size: ([\d.]+)px", svg)
        for size in size
        if size
    ]
    assert min(sizes) * 358 / (72 * WIDTH) >= 12  # px on a phone, which gives a page 358


def letters(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("outcomes", [LONG, dict.fromkeys([f"generator {k}" for k in range(12)], "helps")])
def test_names_in_figures_are_whole(outcomes):
    report = example_report(outcomes, classes=tuple(f"a class of {k} words, of which none is short" for k in DIGITS))
    drawn = {draw: letters("".join(ElementTree.fromstring(draw(report)).itertext())) for draw in DRAWN}
    assert all(letters(arm.name) in drawn[figures.forest_plot] for arm in report.arms)
    assert all(letters(name) in drawn[figures.recall_plot] for name in report.data.classes)
    for name in outcomes:
        assert letters(f"“{name}”") in drawn[figures.recall_plot]
        assert letters(f"“{name}”") in drawn[figures.learning_curve]


def test_of_many_classes_those_that_change_most():
    svg = figures.recall_plot(example_report(classes=tuple(f"class {k}" for k in range(100))))
    assert "the 30 of 100 classes that change most" in svg
    assert len(set(re.findall(r">class \d+<", svg))) == 30


def test_names_are_broken_at_spaces_then_hyphens_then_anywhere():
    assert wrapped("generated by acgan 0.3", 1.2) == ["generated by", "acgan 0.3"]
    assert wrapped("by a-long-name-of-mine", 1) == ["by a-long-", "name-of-", "mine"]
    assert wrapped("猫" * 20, 10.5 * TEXT / 72) == ["猫" * 10] * 2
    assert wrapped("a\0b", 1) == ["a�b"]
    assert wrapped("", 1) == [""]


@given(text=st.text(max_size=60), width=st.floats(0.01, 5), bold=st.booleans())
def test_a_broken_name_has_all_its_letters_and_no_line_that_could_be_broken_on(text, width, bold):
    lines = wrapped(text, width, bold=bold)
    shown = "".join(letter if letter.isprintable() else "�" for letter in text)
    assert letters("".join(lines)) == letters(shown)
    assert all(wrapped(line, width, bold=bold) == [line] for line in lines)


def test_numbers():
    assert [percent(0.9638), percent(None)] == [f"96.4{SPACE}%", NOTHING]
    assert [points(0.0138), points(-0.0138), points(-0.0001)] == ["+1.4", f"{MINUS}1.4", "0.0"]
    made = replace(difference_of(0.014, 5), low=-0.001, high=0.03)
    assert interval(made) == f"+1.4 [{MINUS}0.1,{SPACE}+3.0]"
    assert [number(-0.00012), number(12345.6)] == [f"{MINUS}0.00012", "12,346"]
    assert [kimg(value) for value in (67.84, 20.032, 1200.0, 0.064)] == ["67.8", "20", "1,200", "0.064"]
    assert [plain(value) for value in (True, None, 2000, 0.002, [0.1, 0.3])] == [
        "yes",
        "none",
        "2,000",
        "0.002",
        "0.1, 0.3",
    ]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a network or a home."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = which("chromium"), which("chromedriver")
    if not program or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    folder = tmp_path_factory.mktemp("chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"),
        *("disable-background-networking", "disable-component-update", "disable-dev-shm-usage"),
        f"user-data-dir={folder}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chromium
    chromium.quit()


def show(browser, path: Path, width: int) -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())


@pytest.mark.parametrize("which_one", ["html", "two", "hostile"])
def test_in_a_browser(which_one, request, browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(request.getfixturevalue(which_one), encoding="utf-8")
    for width in (390, 1280):
        show(browser, path, width)
        assert browser.get_log("browser") == []
        assert browser.find_element("css selector", ".verdict .sentence").is_displayed()
        top, whole, wide = browser.execute_script(
            "document.querySelectorAll('details').forEach(each => each.open = true);"
            "return [document.querySelector('.verdict').getBoundingClientRect().top,"
            "[...document.images].every(image => image.complete && image.naturalWidth > 0),"
            "document.documentElement.scrollWidth]"
        )
        assert 0 < top < 200
        assert whole
        assert wide <= width


@pytest.mark.parametrize("outcomes", [None, LONG, {SCRIPT: "helps", "g" * 200: "hurts"}])
def test_text_of_figures_is_inside_them_and_does_not_overlap(outcomes, browser, tmp_path):
    report = example_report(outcomes, HOSTILE if outcomes and SCRIPT in outcomes else DIGITS)
    for draw in DRAWN:
        path = tmp_path / f"{draw.__name__}.svg"
        path.write_text(draw(report), encoding="utf-8")
        show(browser, path, 390)
        outside, overlapping = browser.execute_script(
            "const boxes = [...document.querySelectorAll('text')].map(each => each.getBoundingClientRect());"
            "const all = document.documentElement.getBoundingClientRect();"
            "return [boxes.filter(box => box.left < all.left - 1 || box.right > all.right + 1"
            " || box.top < all.top - 1 || box.bottom > all.bottom + 1).length,"
            "boxes.filter((box, k) => boxes.slice(k + 1).some(other => box.left < other.right + 2 && other.left <"
            " box.right + 2 && box.top < other.bottom - 5 && other.top < box.bottom - 5)).length]"
        )
        assert (draw.__name__, outside, overlapping) == (draw.__name__, 0, 0)
        if draw is figures.forest_plot:
            through, above, below = browser.execute_script(
                "const zero = document.querySelector('#zero').getBoundingClientRect();"
                "const all = document.documentElement.getBoundingClientRect();"
                "return [[...document.querySelectorAll('text')].map(each => each.getBoundingClientRect()).filter("
                "box => box.left < zero.right + 1 && zero.left < box.right + 1 && box.top < zero.bottom).length,"
                "zero.top - all.top, all.bottom - zero.bottom]"
            )
            assert through == 0  # the line of no difference is whole
            assert above < 20
            assert below < 80


@pytest.mark.parametrize("name", ["html", "two"])
def test_tables_to_compare_by_are_whole_on_a_phone(name, request, browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(request.getfixturevalue(name), encoding="utf-8")
    show(browser, path, 390)
    hidden = browser.execute_script(
        "document.querySelectorAll('details').forEach(each => each.open = true);"
        "return [...document.querySelectorAll('.arms, .trials, .explained')].map(each => each.closest('.scroll'))"
        ".filter(box => box.scrollWidth > box.clientWidth).map(box => box.getAttribute('aria-label'))"
    )
    assert hidden == []


def test_captions_of_tables_are_whole_beside_a_scroll_bar(browser, two, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(two, encoding="utf-8")
    desktop = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", desktop)
    browser.get(path.as_uri())
    window, beyond = browser.execute_script(
        "document.querySelectorAll('details').forEach(each => each.open = true);"
        "return [document.documentElement.clientWidth, [...document.querySelectorAll('caption span')].map(each =>"
        "each.getBoundingClientRect().right - each.closest('.scroll').getBoundingClientRect().right)]"
    )
    assert window < 390
    assert max(beyond) <= 0


def test_print_shows_what_is_folded(browser, html, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    show(browser, path, 1280)
    height = "return document.querySelector('details').getBoundingClientRect().height"
    folded = browser.execute_script(height)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.execute_script(height) > folded + 100
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_picture_says_what_it_shows(html, digits):
    shown: Picture = example_pictures(digits)["real"]
    assert shown.caption in html
    assert f'alt="{shown.alt}"' in html
