"""The README's examples of mixing, as one program: a fresh process, and the folders they name."""

from __future__ import annotations

import re

from helpers.generators import make_generator
from helpers.images import small_images, write_idx_pair
from helpers.programs import REPOSITORY, run_python

END = """
assert sum(len(labels) for _, labels in loader) in (5714, 5715)
assert (len(balanced), len(some_more), len(replaced), replaced.n_fake) == (4000, 4150, 4000, 1200)
assert (many.n_real, many.n_fake) == (80000, 80000)
assert (len(mixed), len(synthetic)) == (5714, 200)
assert mixed[5713]["source"] == 1
data = Data()
data.setup("fit")
assert len(data.train_dataloader()) == 90
print("the end")
"""


def blocks() -> list[str]:
    text = (REPOSITORY / "README.md").read_text()
    part = text[text.index("## Mix generated images") : text.index("## Did it help?")]
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)


def test_the_ways_in_work_as_written(tmp_path):
    make_generator().save_pretrained(tmp_path / "outputs" / "flow")
    for prefix in ("train", "t10k"):
        write_idx_pair(tmp_path / "data" / "MNIST" / "raw", small_images(n=40, classes=10, size=28), prefix)
    program = blocks()
    assert len(program) == 12
    adapted = "\n".join(program).replace("train.check_alignment()\n", "")  # an untrained one draws nothing like digits
    (tmp_path / "program.py").write_text(f"{adapted}{END}")
    assert run_python("program.py", cwd=tmp_path).startswith("the end\n")  # then, on stderr, progress
