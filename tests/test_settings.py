"""site.yaml and study.yaml."""

import pytest

from icf_tools.archive.build import build
from icf_tools.index.deposit import index
from icf_tools.index.records import read_images, read_tarball
from icf_tools.model.brand import Brand
from icf_tools.model.dicom import RECORDED
from icf_tools.model.search import DEFAULT, Element, ElementType
from icf_tools.model.visit import StorePath
from icf_tools.settings import (
    BadSettings,
    DeniedSetting,
    Settings,
    read_settings,
    read_site_settings,
)
from tests import dicoms


def settle(store: StorePath, site: str = "", study: str = "") -> Settings:
    store.study.mkdir(parents=True, exist_ok=True)
    (store.root / "site.yaml").write_text(site)
    (store.study / "study.yaml").write_text(study)
    return read_settings(store)


def test_nothing_settled(store: StorePath) -> None:
    assert read_settings(store) == Settings() == settle(store) == settle(store, "# only a comment")


def test_the_studys_word_wins(store: StorePath) -> None:
    site = "store_url: https://a.example.org\ndeposit_url: https://b.example.org\n"
    settled = settle(store, site, "deposit_url: https://c.example.org\n")
    assert settled.store_url == "https://a.example.org"
    assert settled.deposit_url == "https://c.example.org"


def test_tags_are_added_and_denied(
    store: StorePath, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settled = settle(
        store, "tags: [ReceiveCoilName]", "tags:\n  - InversionTime\ndeny: [StudyDate]"
    )
    keywords = [tag.keyword for tag in settled.tags]
    assert keywords[-2:] == ["ReceiveCoilName", "InversionTime"]
    assert "StudyDate" not in keywords
    assert len(keywords) == len(RECORDED) + 1
    folder = tmp_path_factory.mktemp("in")
    dicoms.write(folder / "x", dicoms.image(ReceiveCoilName="HeadCoil", InversionTime="900"))
    build(folder, store, tags=settled.tags)
    index(store, tags=settled.tags)
    (image,) = read_images(store, read_tarball(store))
    assert image.tags is not None
    assert image.tags["ReceiveCoilName"] == "HeadCoil"
    assert image.tags["InversionTime"] == 900.0
    assert "StudyDate" not in image.tags


def test_a_denied_element_cannot_be_allowed(store: StorePath) -> None:
    with pytest.raises(DeniedSetting, match=r"study.yaml, line 1: InstitutionName"):
        settle(store, study="tags: [InstitutionName]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\n", "line 1: there is no setting 'a'"),
        ("store_url: x\n\nstroe_url: y\n", "line 3: there is no setting 'stroe_url'"),
        ("store_url: 5\n", "line 1: store_url: it should be a text"),
        ("tags:\n  - Rows\n  - 7\n", "line 3: tags.1: it should be a text"),
        ("tags:\n  - Rows\n  - Rwos\n", "line 3: 'Rwos' is not a keyword"),
        ("deny: [StudyDat]\n", "line 1: 'StudyDat' is not a keyword"),
        ("tags: [PixelData]\n", "PixelData"),
        ("\nstore_url: /data/store\n", "line 2: '/data/store' cannot be recorded as a URL"),
        ("- a\n- b\n", "line 1: the file: it should have keys and values"),
        ("x: [1\n", "it is not YAML"),
        ("store_url: 2001-99-99\n", "line 1: '2001-99-99' cannot be recorded as a URL"),
        ("store_url: !!int abc\n", "it is not YAML"),
        ("? [a]: b\n", "it is not YAML"),
        ("&a [*a]\n", "study.yaml, line 1"),
        ("[" * 3000, "it is not YAML"),
        ('tags: [""]\n', "line 1: '' is not a keyword"),
        ("a: !!python/object:os.system x\n", "it is not YAML"),
    ],
)
def test_errors_name_the_line(store: StorePath, text: str, said: str) -> None:
    with pytest.raises((BadSettings, DeniedSetting)) as caught:
        settle(store, study=text)
    assert said in str(caught.value)


def test_a_study_denies_what_the_site_added(store: StorePath) -> None:
    settled = settle(store, "tags: [InversionTime]", "deny: [InversionTime, PatientName]")
    assert settled == Settings(deny=("InversionTime", "PatientName"))


def test_previews_and_bids(store: StorePath) -> None:
    settled = settle(store, "previews: true", "bids: {reproin: true, name: A study}")
    assert settled.previews
    assert settled.bids is not None
    assert settled.bids.about == {"name": "A study"}
    assert not settle(store, "previews: true", "previews: false").previews


def test_rules_that_cannot_be_are_refused_with_their_line(store: StorePath) -> None:
    text = """\
store_url: https://a.example.org
bids:
  rules:
    - match: {ProtocolName: 'a*'}
      datatype: anat
      suffix: T9w
"""
    with pytest.raises(BadSettings, match=r"study\.yaml, line 6: bids\.rules\.0\.suffix: "):
        settle(store, "", text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("deny: [ProtocolName]\ndeny: [EchoTime]\n", 2),
        ("bids:\n  reproin: true\nbids:\n  name: x\n", 3),
        ("bids:\n  rules:\n    - match: {Modality: MR, Modality: CT}\n", 3),
    ],
)
def test_a_key_that_is_there_twice_is_refused(store: StorePath, text: str, line: int) -> None:
    """YAML itself takes the last one, and what was denied before would be told."""
    with pytest.raises(BadSettings, match=rf"line {line}: the key '\w+' is there a second time"):
        settle(store, "", text)


@pytest.mark.parametrize("label", ["07", "010", "0x10", "1:30", "12_3", "on", "yes", "1e", "."])
def test_labels_are_what_is_written(store: StorePath, label: str) -> None:
    rule = f"{{match: {{Modality: MR}}, datatype: anat, suffix: T1w, entities: {{acq: {label}}}}}"
    text = f"bids:\n  rules:\n    - {rule}\n"
    if label.isalnum():
        plan = settle(store, "", text).bids
        assert plan is not None
        assert plan.rules[0].entities == {"acq": label}
    else:
        with pytest.raises(BadSettings, match="is not a label"):
            settle(store, "", text)


@pytest.mark.parametrize("value", ["7", "1.5", "true"])
def test_a_label_that_is_a_number_is_to_be_quoted(store: StorePath, value: str) -> None:
    rule = f"{{match: {{Modality: MR}}, datatype: anat, suffix: T1w, entities: {{acq: {value}}}}}"
    with pytest.raises(BadSettings, match="a label is a text; quote it"):
        settle(store, "", f"bids:\n  rules:\n    - {rule}\n")


def test_numbers_are_those_of_yaml_1_2(store: StorePath) -> None:
    match = "{EchoTime: {lt: 0.05, gt: 1e-3}, SeriesNumber: {in: [4, -5, 3.]}}"
    plan = settle(store, "", f"bids:\n  rules:\n    - {{match: {match}, skip: true}}\n").bids
    assert plan is not None
    assert [criterion.value for criterion in plan.rules[0].match] == [0.05, 0.001, (4, -5, 3.0)]


def test_a_file_of_another_name_is_not_passed_over(store: StorePath) -> None:
    store.root.mkdir()
    (store.root / "site.yml").write_text("store_url: https://a.example.org")
    with pytest.raises(BadSettings, match=r"site\.yml, line 1: it is not read; name it site\.yaml"):
        read_settings(store)


def test_what_the_search_page_asks_for(store: StorePath) -> None:
    site = "search: {elements: [{type: text, keyword: ProtocolName}]}"
    study = """\
tags: [InversionTime]
search:
  elements:
    - {type: number-range, keyword: EchoTime, alternate_keywords: [RepetitionTime],
       label: TE, min: 0, max: 10.5, enabled: false}
    - {type: sphere, keyword: Coverage}
    - {type: date-range, keyword: StudyDate}
    - {type: drop-down, keyword: DerivativeStatus}
    - {type: text, keyword: InversionTime, auto_complete: true}
"""
    assert settle(store).elements == DEFAULT
    assert settle(store, site).elements == (
        Element(ElementType.TEXT, "ProtocolName", "ProtocolName"),
    )
    first, *others = settle(store, site, study).elements
    assert first == Element(
        *(ElementType.NUMBER_RANGE, "EchoTime", "TE", ("RepetitionTime",), 0.0, 10.5),
        enabled=False,
    )
    assert [str(each.type) for each in others] == ["sphere", "date-range", "drop-down", "text"]
    assert others[-1].auto_complete
    assert read_site_settings(store.root).elements[0].keyword == "ProtocolName"


@pytest.mark.parametrize(
    ("element", "said"),
    [
        ("{type: text}", "keyword: field required"),
        ("{type: texts, keyword: Modality}", "input should be 'text'"),
        ("{type: text, keyword: Modalty}", "'Modalty' is not a keyword"),
        ("{type: text, keyword: Modality, lable: M}", "there is no setting"),
        ("{type: number-range, keyword: Modality}", "cannot be asked for by a number-range"),
        ("{type: number-range, keyword: EchoTime, alternate_keywords: [Visit]}", "Visit cannot"),
        ("{type: date-range, keyword: EchoTime}", "cannot be asked for by a date-range"),
        ("{type: text, keyword: StudyDate}", "cannot be asked for by a text"),
        ("{type: text, keyword: Coverage}", "cannot be asked for by a text"),
        ("{type: sphere, keyword: EchoTime}", "cannot be asked for by a sphere"),
        ("{type: text, keyword: InversionTime}", "is not recorded; put it under tags"),
        ("{type: text, keyword: Modality, min: 1}", "min means nothing for a text"),
        (
            "{type: drop-down, keyword: Modality, auto_complete: true}",
            "auto_complete means nothing",
        ),
        ("{type: number-range, keyword: EchoTime, max: 1e400}", "finite"),
        ("{type: text, keyword: SOPInstanceUID}", "cannot be asked for by a text"),
        ("{type: number-range, keyword: InstanceNumber}", "cannot be asked for"),
        ("{type: number-range, keyword: EchoTime, min: 2, max: 1}", "its min is above its max"),
        ("{type: number-range, keyword: EchoTime, min: x}", "valid number"),
        ("{type: number-range, keyword: EchoTime, min: .nan}", "valid number"),
        (
            "{type: text, keyword: EchoTime}\n    - {type: text, keyword: EchoTime}",
            "has an element",
        ),
    ],
)
def test_elements_that_cannot_be(store: StorePath, element: str, said: str) -> None:
    with pytest.raises(BadSettings) as refused:
        settle(store, study=f"search:\n  elements:\n    - {element}\n")
    assert said in str(refused.value)
    assert "study.yaml, line " in str(refused.value)


def test_what_is_denied_cannot_be_asked_for(store: StorePath) -> None:
    with pytest.raises(DeniedSetting, match="line 3: PatientName"):
        settle(store, study="search:\n  elements:\n    - {type: text, keyword: PatientName}\n")


def test_looks(store: StorePath) -> None:
    site = "catalog:\n  logo: our.svg\n  link_color: '#123'\n  links: {about: 'https://a.org'}\n"
    settled = settle(store, site, "catalog: {name: Memory, content: true, site: false}")
    assert settled.brand == Brand(
        name="Memory",
        logo="our.svg",
        link_color="#123",
        links=(("about", "https://a.org"),),
        content=True,
        site=False,
    )
    assert settled.logo == store.root / "our.svg"
    assert settle(store, site, "catalog: {logo: a.png}").logo == store.study / "a.png"
    assert settle(store).logo is None


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("catalog:\n  name: a\n  link_color: red", 3, "'red' is not a colour"),
        ("catalog:\n  link_color: #123456", 2, "it should be a text; quote it if it begins with #"),
        ("catalog:\n  link_color: '#fe0'", 2, "too light to be read on white (1.2 to 1)"),
        ('catalog:\n  name: "\\ud800"', 1, "it is not YAML in UTF-8, or a value is not valid"),
        ("catalog: &a\n  name: *a", 1, "it is not YAML"),
        ("catalog:\n  logo: ../a.svg", 2, "is not the name of a picture"),
        ("catalog:\n  links:\n    about: javascript:alert(1)", 3, "is not a link"),
        ("catalog:\n  links:\n    about: 'https://a b'", 3, "is not a link"),
        ("catalog:\n  nam: a", 2, "there is no setting 'catalog.nam'; the settings are name,"),
        ("catalog: {content: 1}", 1, "it should be true or false"),
        ("search:\n  element: []", 2, "there is no setting"),
    ],
)
def test_looks_that_cannot_be(store: StorePath, text: str, line: int, said: str) -> None:
    with pytest.raises(BadSettings) as refused:
        settle(store, study=text)
    assert f"study.yaml, line {line}: " in str(refused.value)
    assert said in str(refused.value)


def test_aliases_are_read_as_long_as_there_are_few(store: StorePath) -> None:
    text = "catalog: {links: {a: &url 'https://a.org', b: *url}}"
    assert settle(store, text).brand.links == (("a", "https://a.org"), ("b", "https://a.org"))
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        levels.append(f"a{level}: &a{level} [{', '.join(9 * [f'*a{level - 1}'])}]")
    with pytest.raises(BadSettings, match="unfold to more than"):
        settle(store, "\n".join(levels))
