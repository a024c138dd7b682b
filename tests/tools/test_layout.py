"""The layout has rules: few modules in a folder, and a name of its own for each public class."""

from pathlib import Path

from tools.layout import MODULES_MAX, crowded_folders, repeated_class_names


def test_a_folder_has_few_modules() -> None:
    full = [Path(f"hal/emul/module{number}.py") for number in range(MODULES_MAX)]
    assert list(crowded_folders(full)) == []
    (finding,) = crowded_folders([*full, Path("hal/emul/one_more.py")])
    assert finding.startswith(f"hal/emul: {MODULES_MAX + 1} modules; ")


def test_a_folder_of_modules_of_one_form_may_have_many() -> None:
    pages = [Path(f"datacenter/web/pages/page{number}.py") for number in range(MODULES_MAX + 1)]
    assert list(crowded_folders(pages)) == []


def test_a_public_class_name_exists_once() -> None:
    first, second = Path("hal/disk.py"), Path("sim/disk.py")
    (finding,) = repeated_class_names({first: "class Disk: ...", second: "x = 1\nclass Disk: ..."})
    assert finding.startswith("sim/disk.py: the class Disk exists in hal/disk.py as well")


def test_private_and_nested_classes_may_share_a_name() -> None:
    text = "class _Disk: ...\nclass {0}:\n    class Part: ..."
    assert list(repeated_class_names({Path("a.py"): text.format("A"), Path("b.py"): text.format("B")})) == []
