"""Shell scripts: where an expression stands, and that no value becomes shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ffd.core.document.script import compile_script


@pytest.mark.parametrize(
    ("script", "places"),
    [
        ("echo ${{ a }}", ["bare"]),
        ("echo \"${{ a }}\" '${{ b }}' ${{ c }}", ["double", "single", "bare"]),
        ("echo \"it's ${{ a }}\" it\\'s ${{ b }}", ["double", "bare"]),
        ("cat <<EOF\nit's ${{ a }}\nEOF\necho ${{ b }}", ["heredoc", "bare"]),
        ("cat <<'EOF'\n${{ a }}\nEOF\necho ${{ b }}", ["literal heredoc", "bare"]),
        ("cat <<-\"E\"\n${{ a }}\n\tE\necho '${{ b }}'", ["literal heredoc", "single"]),
        ("cat <<A <<'B'\n${{ a }}\nA\n${{ b }}\nB\n${{ c }}", ["heredoc", "literal heredoc", "bare"]),
        ('x=$(echo "${{ a }}" ${{ b }}) # it\'s\necho ${{ c }}', ["double", "bare", "bare"]),
        ('echo "$(printf \'%s\' ${{ a }})" "${{ b }}"', ["bare", "double"]),
        ("echo $((1 << 2)) ${{ a }}\n2\n${{ b }}", ["bare", "bare"]),
        ('echo "${X:-${{ a }}}" ${{ b }}', ["double", "bare"]),
        ("cat <<< '${{ a }}' ${{ b }}", ["single", "bare"]),
        ("# don't ${{ a }}\necho ${{ b }}", ["comment", "bare"]),
        ("echo a#b'${{ a }}'", ["single"]),
        ("case x in a) echo ${{ a }};; esac", ["bare"]),
        ("echo `echo '${{ a }}'` ${{ b }}", ["single", "bare"]),
    ],
)
def test_places(script: str, places: list[str]) -> None:
    assert [use.place for use in compile_script(script).uses] == places


NASTY = [
    '"; touch pwned; "',
    "'; touch pwned; '",
    "$(touch pwned)",
    "`touch pwned`",
    "a\nEOF\ntouch pwned\n",
    "-n",
    "a  b * ?",
    "\\",
    "${HOME}",
    "é\N{SNOWMAN}",
]
ALL_PLACES = """
printf '%s|' "${{ params.x }}"
printf '%s|' "a $(printf '%s' "${{ params.x }}")"
cat <<EOF
${{ params.x }}
EOF
"""
SHELLS = [shell for shell in ("sh", "bash", "dash") if shutil.which(shell)]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("value", NASTY)
def test_values_never_become_shell(value: str, shell: str, tmp_path: Path) -> None:
    script = compile_script(ALL_PLACES)
    assert script.bindings == {"FFD_EXPR_0": "params.x"}
    result = subprocess.run(
        [shutil.which(shell) or shell, "-euc", script.text],
        env={"FFD_EXPR_0": value, "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert result.stdout.decode() == f"{value}|a {value.rstrip(chr(10))}|{value}\n"
    bare = compile_script("printf '%s|' ${{ params.x }}")
    environment = {"FFD_EXPR_0": value, "PATH": "/usr/bin:/bin"}
    subprocess.run([shell, "-uc", bare.text], env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert list(tmp_path.iterdir()) == []
