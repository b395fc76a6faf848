#!/usr/bin/env python3
"""Draws what commands print as a terminal, in SVG: python3 docs/terminal.py COMMAND... > docs/wordcount.svg

Each argument is a command for the shell, run in this directory's parent; what it prints is drawn as it came. Nothing but Python's own library.
"""

import html
import pathlib
import subprocess
import sys

CHAR, LINE, PAD, BAR = 8.4, 20, 16, 34
COLUMNS = 88
BACKGROUND, TEXT, PROMPT, DIM = "#1e2127", "#d7dae0", "#98c379", "#5c6370"


def run(command):
    root = pathlib.Path(__file__).resolve().parent.parent
    done = subprocess.run(command, shell=True, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    printed = done.stdout.replace(f"{root}/", "")
    lines = [line.expandtabs() for line in printed.splitlines()]
    # Long lines go on in the next row, as in a terminal.
    rows = [line[start : start + COLUMNS] for line in lines for start in range(0, max(len(line), 1), COLUMNS)]
    return [("$ " + command, PROMPT)] + [(row, TEXT) for row in rows]


def draw(lines):
    width = max(len(text) for text, _ in lines) * CHAR + 2 * PAD
    height = len(lines) * LINE + PAD + BAR
    rows = "\n".join(
        f'<text x="{PAD}" y="{BAR + (n + 1) * LINE - 6}" fill="{color}" xml:space="preserve">{html.escape(text)}</text>'
        for n, (text, color) in enumerate(lines)
    )
    dots = "".join(f'<circle cx="{PAD + 4 + n * 18}" cy="17" r="5.5" fill="{DIM}"/>' for n in range(3))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}" role="img">
<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>
{dots}
<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14">
{rows}
</g>
</svg>"""


print(draw([line for command in sys.argv[1:] for line in run(command)]))
