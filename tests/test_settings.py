"""site.yaml and study.yaml."""

import pytest

from icf_tools.archive.build import build
from icf_tools.index.deposit import index
from icf_tools.index.records import read_images, read_tarball
from icf_tools.model.dicom import RECORDED
from icf_tools.model.visit import StorePath
from icf_tools.settings import BadSettings, DeniedSetting, Settings, read_settings
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
        ("store_url: 5\n", "line 1: store_url: input should be a valid string"),
        ("tags:\n  - Rows\n  - 7\n", "line 3: tags.1: input should be a valid string"),
        ("tags:\n  - Rows\n  - Rwos\n", "line 3: 'Rwos' is not a keyword"),
        ("deny: [StudyDat]\n", "line 1: 'StudyDat' is not a keyword"),
        ("tags: [PixelData]\n", "PixelData"),
        ("\nstore_url: /data/store\n", "line 2: '/data/store' cannot be recorded as a URL"),
        ("- a\n- b\n", "line 1: the file: input should be"),
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
