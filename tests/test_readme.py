"""What the README shows must be what happens."""

import doctest
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def test_readme_example_prints_what_it_shows():
    text = README.read_text(encoding="utf-8")
    shown = text.partition("```python\n")[2].partition("```")[0]
    example = doctest.DocTestParser().get_doctest(shown, {}, "README", str(README), 0)
    result = doctest.DocTestRunner().run(example)
    assert result.attempted >= 5 and result.failed == 0


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 100
