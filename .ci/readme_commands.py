"""Print the fenced `sh` blocks of README.md's section `## Quick start`, a line each."""

import re
import sys
from pathlib import Path

text = Path(sys.argv[1]).read_text(encoding="utf-8")
section = re.split(r"^## ", text.split("\n## Quick start\n", 1)[1], maxsplit=1, flags=re.M)[0]
for block in re.findall(r"^```sh\n(.*?)^```$", section, flags=re.M | re.S):
    print(block.strip().replace("\n", "; "))
